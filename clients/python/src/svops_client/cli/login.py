"""Signs a person in: asks for name, password and code once, and makes an API key that the command keeps."""

from __future__ import annotations

import platform as machine
from datetime import datetime, timedelta, timezone

import typer

from svops_client._core.credentials import SignIn
from svops_client._core.http import call
from svops_client._core.operations import me
from svops_client._core.platform import Platform
from svops_client._sync import SyncDriver
from svops_client.errors import AuthenticationError
from svops_client.models import Me

# Those that an API key of the command is of use for; the caller has fewer, perhaps.
SCOPES = {"workflow:read", "run:trigger", "run:control"}


def new_key(url: str, username: str, password: str, *, days: int) -> tuple[str, Me]:
    """Return a new API key of this user, and who that is. Asks for the code of a second factor if it is needed."""
    try:
        return _new_key(url, SignIn(username, password), days)
    except AuthenticationError as exc:
        if exc.code != "second_factor_required":
            raise
    code = typer.prompt("Code of your authenticator app, or a recovery code", err=True)
    return _new_key(url, SignIn(username, password, code=code), days)


def _new_key(url: str, credentials: SignIn, days: int) -> tuple[str, Me]:
    platform = Platform(base_url=url, credentials=credentials, retry_for=10)
    driver = SyncDriver(platform)
    try:
        who = driver.run(me(platform))
        body = {
            "name": f"svops on {machine.node()}"[:100],
            "scopes": sorted(SCOPES & set(who.scopes)),
            "expires_at": (datetime.now(timezone.utc) + timedelta(days=days)).isoformat(),
        }
        key: str = driver.run(call(platform, "POST", "/api/v1/api-keys", body=body)).json["key"]
        driver.run(call(platform, "POST", "/api/v1/auth/logout", body={}))
        return key, who
    finally:
        driver.close()
