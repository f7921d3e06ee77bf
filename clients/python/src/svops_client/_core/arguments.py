"""From the arguments of a client, and from the environment, to the platform and the credentials that they mean."""

from __future__ import annotations

import os

from svops_client._core.credentials import Credentials, Given, Nobody, SignIn, Source

DEFAULT_URL = "http://127.0.0.1:8000"


def url_of(base_url: str | None) -> str:
    """Return the address of the platform: as given, from SVOPS_URL, or that of `make up`."""
    url = (base_url or os.environ.get("SVOPS_URL") or DEFAULT_URL).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"base_url: expected http:// or https:// at the beginning of {url!r}.")
    return url.removesuffix("/api/v1")


def credentials_of(
    *,
    api_key: Source | None,
    token: Source | None,
    ticket: Source | None,
    username: str | None,
    password: str | None,
    code: str,
) -> Credentials:
    """Return the credentials that are given, or else the API key in SVOPS_API_KEY. Only one kind may be given."""
    given = [name for name, value in _named(api_key, token, ticket, username).items() if value]
    if len(given) > 1:
        raise ValueError(f"Expected one of api_key, token, ticket and username, not {' and '.join(given)}.")
    if bool(username) != bool(password):
        raise ValueError("username and password belong together.")
    if username and password:
        return SignIn(username, password, code=code)
    if ticket:
        return Given(ticket, scheme="Ticket")
    bearer = api_key or token or os.environ.get("SVOPS_API_KEY")
    return Given(bearer) if bearer else Nobody()


def _named(api_key: object, token: object, ticket: object, username: object) -> dict[str, object]:
    return {"api_key": api_key, "token": token, "ticket": ticket, "username": username}
