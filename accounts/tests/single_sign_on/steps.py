"""Steps of the tests: sign in at the provider, exchange a token, look at what is stored."""

from __future__ import annotations

from typing import Any

from django.test import Client
from rest_framework.test import APIClient

from accounts.models import AuditEntry, Identity
from accounts.tests.conftest import everything
from accounts.tests.provider import Provider

EXCHANGE = "/api/v1/auth/oidc"


def started(client: Client, next_url: str = "") -> str:
    """Start a sign-in. Return the URL that the browser is sent to."""
    answer = client.get("/login/oidc", {"next": next_url})
    assert answer.status_code == 302
    return str(answer["Location"])


def signed_in(client: Client, provider: Provider, username: str = "grace", next_url: str = "") -> Any:
    return client.get(provider.sign_in(username, started(client, next_url)))


def exchanged(id_token: str) -> Any:
    return APIClient().post(EXCHANGE, {"id_token": id_token})


def stored() -> list[Any]:
    return [*everything(), *Identity.objects.order_by("pk").values(), *AuditEntry.objects.order_by("pk").values()]


def audited(*actions: str) -> list[tuple[str, str, Any]]:
    return list(AuditEntry.objects.filter(action__in=actions).order_by("pk").values_list("action", "actor", "after"))


def problem(answer: Any) -> str:
    return str(answer.context["problem"])
