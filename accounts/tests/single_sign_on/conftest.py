"""A real identity provider for all tests of single sign-on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from accounts import oidc
from accounts.tests.provider import CLIENT_ID, CLIENT_SECRET, Provider


@pytest.fixture(scope="package")
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.stop()


@pytest.fixture
def sso(provider: Provider, settings: Settings) -> Iterator[Provider]:
    """Single sign-on is on."""
    settings.OIDC_ISSUER = provider.issuer
    settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET = CLIENT_ID, CLIENT_SECRET
    settings.OIDC_SCOPES = "openid profile email groups"
    settings.OIDC_TIMEOUT = 60.0  # a busy machine takes its time
    oidc._client.cache_clear()
    yield provider
    oidc._client.cache_clear()


@pytest.fixture
def nobody_there(sso: Provider, settings: Settings, unused_tcp_port: int) -> None:
    settings.OIDC_ISSUER = f"http://127.0.0.1:{unused_tcp_port}"
