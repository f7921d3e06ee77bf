"""Who may open a stream, and the codes that a refused or ended one is closed with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.http.request import split_domain_port, validate_host

from accounts import limits
from accounts.authentication import authenticate_ticket, authenticate_token, caller_of, token_in
from accounts.identity import Caller, TicketAction
from accounts.models import User
from svops.errors import SVOpsError
from workflows.hub import Wanted
from workflows.models import Run, Workflow

SCOPE = "workflow:read"
BEARER_PROTOCOL = "bearer."


class CloseError(SVOpsError):
    """The stream has to end, with `close_code`."""

    close_code: ClassVar[int] = 1011


class NotSignedInError(CloseError):
    code = "not_authenticated"
    http_status = HTTPStatus.UNAUTHORIZED
    close_code = 4401


class NotAllowedHereError(CloseError):
    code = "permission_denied"
    http_status = HTTPStatus.FORBIDDEN
    close_code = 4403


class UnknownError(CloseError):
    code = "not_found"
    http_status = HTTPStatus.NOT_FOUND
    close_code = 4404


TOO_SLOW = 4408
TOO_MANY = 4429


async def admit(caller: Caller) -> None:
    """Count a stream that `caller` opens; raises `TooManyRequestsError` when it is one too many."""
    # In a thread of its own: the others wait for the database there, and this for Redis.
    await sync_to_async(limits.require, thread_sensitive=False)(limits.Rate.STREAM, limits.by_caller(caller))


@database_sync_to_async
def authenticate(token: str, *, tickets_only: bool = False) -> Caller:
    """The caller that a token stands for."""
    try:
        return authenticate_ticket(token) if tickets_only else authenticate_token(token)
    except SVOpsError as exc:
        raise NotSignedInError(str(exc)) from exc


async def authenticate_scope(scope: Mapping[str, Any]) -> Caller | None:
    """The caller that the handshake names: by sub-protocol, header, ticket or session; None when it names none.

    A token in the URL is not looked at: URLs end up in logs. A ticket is, which is short-lived and for one run.
    """
    for protocol in scope["subprotocols"]:
        if protocol.startswith(BEARER_PROTOCOL):
            return await authenticate(protocol.removeprefix(BEARER_PROTOCOL))
    if token := bearer(_header(scope, b"authorization")):
        return await authenticate(token)
    if ticket := parse_qs(scope["query_string"].decode("latin-1")).get("ticket"):
        return await authenticate(ticket[0], tickets_only=True)
    caller = await session_caller(scope["user"], scope["session"].session_key)
    if caller and not _is_own_origin(scope):
        raise NotAllowedHereError("A session is accepted from our own pages only.")
    return caller


def bearer(header: str) -> str:
    """The token of an `Authorization` header, or nothing."""
    return token_in(header) or ""


@database_sync_to_async
def session_caller(user: AbstractBaseUser | AnonymousUser, session_key: str | None) -> Caller | None:
    """The caller whom the session cookie names; the user that the middleware offers is not yet loaded."""
    if not user.is_authenticated:
        return None
    return caller_of(User.objects.get(pk=user.pk), session_key=session_key)


def _is_own_origin(scope: Mapping[str, Any]) -> bool:
    """Browsers send the session cookie along from any page, and name the page's origin."""
    origin = _header(scope, b"origin")
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    netloc = urlsplit(origin).netloc
    return netloc == _header(scope, b"host") and validate_host(split_domain_port(netloc)[0], settings.ALLOWED_HOSTS)


def _header(scope: Mapping[str, Any], name: bytes) -> str:
    return str(dict(scope.get("headers", [])).get(name, b"").decode("latin-1"))


def within_bounds(caller: Caller, route: Wanted) -> Wanted:
    """The route, narrowed to what an API key or a ticket is for."""
    bounds = caller.user.bounds
    if bounds.run_id is None:
        return replace(route, within=bounds.workflow_ids)
    if route.run_id not in {None, str(bounds.run_id)}:
        raise UnknownError("There is no such run, or none that you may see.")
    return replace(route, run_id=str(bounds.run_id), within=bounds.workflow_ids)


def require_readable(
    caller: Caller, *, user_id: int | None = None, workflow_id: int | None = None, run_id: UUID | str | None = None
) -> None:
    """Raise the `CloseError` that says why this caller may not read this of the log; return when they may."""
    if not caller.may(SCOPE, TicketAction.VIEW):
        raise NotAllowedHereError(f"The scope {SCOPE} is needed.")
    if user_id is not None and user_id != caller.user.pk:
        if not caller.user.is_superuser:
            raise NotAllowedHereError("Only admins may follow somebody else.")
        if not User.objects.filter(pk=user_id).exists():
            raise UnknownError(f"There is no user {user_id}.")
    if workflow_id is not None and not Workflow.objects.remembered_by(caller.user).filter(pk=workflow_id).exists():
        raise UnknownError(f"There is no workflow {workflow_id}, or none that you may see.")
    if run_id is not None and not Run.objects.visible_to(caller.user).filter(pk=run_id).exists():
        raise UnknownError(f"There is no run {run_id}, or none that you may see.")


check_route = database_sync_to_async(require_readable)
