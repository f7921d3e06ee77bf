"""Who may say for whom they ask: only the peers that `TRUST_PROXY` names."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from accounts.models import AuditEntry
from tests.live.parts import Web

pytestmark = pytest.mark.django_db(transaction=True)

# The tests come from the loopback address.
OURS, OTHERS = "127.0.0.0/8,::1", "198.51.100.0/24"
FORGED = "203.0.113.7"


def tried(web: Web) -> int:
    """Sign in with a wrong password from a forged address. Return the status."""
    return requests.post(
        f"{web.url}/api/v1/auth/login",
        json={"username": "nobody", "password": "wrong"},
        headers={"X-Forwarded-Proto": "https", "X-Forwarded-For": FORGED},
        allow_redirects=False,
        timeout=20,
    ).status_code


@pytest.mark.parametrize(("networks", "address"), [(OURS, FORGED), (OTHERS, "127.0.0.1")])
def test_only_a_proxy_may_name_another_address(tmp_path: Path, networks: str, address: str) -> None:
    """Before: eight forged addresses, and no lockout."""
    with Web(tmp_path, TRUST_PROXY=networks) as web:
        assert tried(web) == 401

    assert AuditEntry.objects.get(action="auth.sign_in_failed").address == address


@pytest.mark.parametrize(("networks", "status"), [(OURS, 401), (OTHERS, 301)])
def test_only_a_proxy_may_say_that_the_client_came_by_https(tmp_path: Path, networks: str, status: int) -> None:
    with Web(tmp_path, TRUST_PROXY=networks, HTTPS="true") as web:
        assert tried(web) == status
