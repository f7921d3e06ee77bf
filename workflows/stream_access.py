"""Who may open a stream, and the codes that a refused or ended one is closed with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from channels.db import database_sync_to_async
from django.conf import settings
from django.http.request import validate_host

from accounts.authentication import authenticate_token, caller_of
from accounts.identity import Caller
from accounts.models import User
from svops.errors import SVOpsError
from workflows.models import Workflow

SCOPE = "workflow:read"
BEARER_PROTOCOL = "bearer."


class CloseError(SVOpsError):
    """The stream has to end, with `close_code`."""

    close_code: ClassVar[int] = 1011


class NotSignedInError(CloseError):
    close_code = 4401


class NotAllowedHereError(CloseError):
    close_code = 4403


class UnknownError(CloseError):
    close_code = 4404


TOO_SLOW = 4408


@database_sync_to_async
def authenticate(token: str) -> Caller:
    """The caller that a token stands for."""
    try:
        return authenticate_token(token)
    except SVOpsError as exc:
        raise NotSignedInError(str(exc)) from exc


async def authenticate_scope(scope: Mapping[str, Any]) -> Caller | None:
    """The caller that the handshake names: by sub-protocol, header or session; None when it names none.

    A token in the URL is not looked at: URLs end up in logs.
    """
    if token := _token(scope):
        return await authenticate(token)
    user = scope.get("user")
    if user is None or not await database_sync_to_async(lambda: user.is_authenticated)():
        return None
    if not _is_own_origin(scope):
        raise NotAllowedHereError("A session is accepted from our own pages only.")
    return caller_of(await database_sync_to_async(User.objects.get)(pk=user.pk))


def _token(scope: Mapping[str, Any]) -> str:
    for protocol in scope.get("subprotocols", []):
        if protocol.startswith(BEARER_PROTOCOL):
            return str(protocol.removeprefix(BEARER_PROTOCOL))
    header = _header(scope, b"authorization")
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _is_own_origin(scope: Mapping[str, Any]) -> bool:
    """Browsers send the session cookie along from any page, and name the page's origin."""
    origin = _header(scope, b"origin")
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    return urlsplit(origin).netloc == _header(scope, b"host") and validate_host(
        urlsplit(origin).hostname or "", settings.ALLOWED_HOSTS
    )


def _header(scope: Mapping[str, Any], name: bytes) -> str:
    return str(dict(scope.get("headers", [])).get(name, b"").decode("latin-1"))


@database_sync_to_async
def check_route(caller: Caller, *, user_id: int | None = None, workflow_id: int | None = None) -> None:
    """Raise the `CloseError` that says why this caller may not read this stream; return when they may."""
    if SCOPE not in caller.scopes:
        raise NotAllowedHereError(f"The scope {SCOPE} is needed.")
    if user_id is not None and user_id != caller.user.pk:
        if not caller.user.is_superuser:
            raise NotAllowedHereError("Only admins may follow somebody else.")
        if not User.objects.filter(pk=user_id).exists():
            raise UnknownError(f"There is no user {user_id}.")
    if workflow_id is not None and not Workflow.objects.visible_to(caller.user).filter(pk=workflow_id).exists():
        raise UnknownError(f"There is no workflow {workflow_id}, or none that you may see.")
