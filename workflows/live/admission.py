"""Who may open a stream, and the codes with which streams are closed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.http.request import split_domain_port, validate_host

from accounts import limits
from accounts.authentication import authenticate_ticket, authenticate_token, caller_of, token_in
from accounts.identity import Caller, TicketAction
from accounts.models import User
from rest.errors import SVOpsError
from rest.masking import mask
from rest.query import one_of
from workflows.live.hub import StreamFilter
from workflows.live.lanes import OPENING, on_lane
from workflows.models import Run, Workflow

SCOPE = "workflow:read"
BEARER_PROTOCOL = "bearer."
PARAMETERS = frozenset({"after", "ticket"})  # of a socket's URL
IGNORED = "token"


class CloseError(SVOpsError):
    """The stream must end with `close_code`."""

    close_code: ClassVar[int] = 1011


class BadUrlError(CloseError):
    """The URL of the stream has a parameter that is unknown or given twice; the sentence names it."""

    code = "invalid"
    http_status = HTTPStatus.BAD_REQUEST
    close_code = 4400


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
    """Count a stream that `caller` opens. Raises `TooManyRequestsError` if it is one too many."""
    # Not in the database thread, because this waits for Redis.
    await sync_to_async(limits.require, thread_sensitive=False)(limits.Rate.STREAM, limits.by_owner(caller))


@on_lane(OPENING)
def authenticate(token: str, *, tickets_only: bool = False) -> Caller:
    """Return the caller to whom a token belongs."""
    try:
        return authenticate_ticket(token) if tickets_only else authenticate_token(token)
    except SVOpsError as exc:
        raise NotSignedInError(str(exc)) from exc


def query_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters of a socket's URL. Raises `BadUrlError`.

    A token there is ignored, because URLs end up in logs. A ticket is accepted: it is short-lived and for one run.
    """
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    given = Counter(name for name, _ in pairs)
    if unknown := given.keys() - PARAMETERS - {IGNORED}:
        raise BadUrlError(f"Unknown parameter {mask(min(unknown)[:100])}; expected {one_of(PARAMETERS)}.")
    if twice := [name for name, count in given.items() if count > 1]:
        raise BadUrlError(f"The parameter {twice[0]} is given {given[twice[0]]} times; expected once.")
    return dict(pairs)


async def authenticate_scope(scope: Mapping[str, Any], *, ticket: str | None) -> Caller | None:
    """Return the caller named in the handshake by sub-protocol, header, ticket or session, or None."""
    for protocol in scope["subprotocols"]:
        if protocol.startswith(BEARER_PROTOCOL):
            return await authenticate(protocol.removeprefix(BEARER_PROTOCOL))
    if token := bearer(_header(scope, b"authorization")):
        return await authenticate(token)
    if ticket is not None:
        return await authenticate(ticket, tickets_only=True)
    caller = await session_caller(scope["user"], scope["session"].session_key)
    if caller and not _is_own_origin(scope):
        raise NotAllowedHereError("A session is accepted only from SVOps' own pages.")
    return caller


def bearer(header: str) -> str:
    """Return the token of an `Authorization` header, or an empty string."""
    return token_in(header) or ""


@on_lane(OPENING)
def session_caller(user: AbstractBaseUser | AnonymousUser, session_key: str | None) -> Caller | None:
    """Return the caller of the session cookie. The middleware's user is lazy, so it is loaded here."""
    if not user.is_authenticated:
        return None
    return caller_of(User.objects.get(pk=user.pk), session_key=session_key)


def _is_own_origin(scope: Mapping[str, Any]) -> bool:
    """Return whether the page is ours. Browsers send the cookie from any page, and the page's origin with it."""
    origin = _header(scope, b"origin")
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    page = urlsplit(origin)
    is_here = (page.scheme, page.netloc) == (_scheme(scope), _header(scope, b"host"))
    return is_here and validate_host(split_domain_port(page.netloc)[0], settings.ALLOWED_HOSTS)


def _scheme(scope: Mapping[str, Any]) -> str:
    """Return the scheme of our own pages, as Django finds out `request.scheme`."""
    forwarded = _header(scope, b"x-forwarded-proto").partition(",")[0].strip() if settings.TRUST_PROXY else ""
    if settings.HTTPS or forwarded == "https":
        return "https"
    return "https" if not forwarded and scope.get("scheme") == "wss" else "http"


def _header(scope: Mapping[str, Any], name: bytes) -> str:
    return str(dict(scope.get("headers", [])).get(name, b"").decode("latin-1"))


def narrow_to_credentials(caller: Caller, url_filter: StreamFilter) -> StreamFilter:
    """Narrow a filter to what the caller's API key or ticket is for."""
    bounds = caller.user.bounds
    if bounds.run_id is None:
        return replace(url_filter, allowed_workflow_ids=bounds.workflow_ids)
    if url_filter.run_id not in {None, str(bounds.run_id)}:
        raise UnknownError("There is no such run, or you cannot see it.")
    return replace(url_filter, run_id=str(bounds.run_id), allowed_workflow_ids=bounds.workflow_ids)


def require_readable(
    caller: Caller, *, user_id: int | None = None, workflow_id: int | None = None, run_id: UUID | str | None = None
) -> None:
    """Raise the `CloseError` that says why this caller may not read this part of the log, if so."""
    if not caller.may(SCOPE, TicketAction.VIEW):
        raise NotAllowedHereError(f"This needs the scope {SCOPE}.")
    if user_id is not None and user_id != caller.user.pk:
        if not caller.user.is_superuser:
            raise NotAllowedHereError("Only administrators may follow another user.")
        if not User.objects.filter(pk=user_id).exists():
            raise UnknownError(f"There is no user {user_id}.")
    if workflow_id is not None and not Workflow.objects.remembered_by(caller.user).filter(pk=workflow_id).exists():
        raise UnknownError(f"There is no workflow {workflow_id}, or you cannot see it.")
    if run_id is not None and not Run.objects.visible_to(caller.user).filter(pk=run_id).exists():
        raise UnknownError(f"There is no run {run_id}, or you cannot see it.")


check_readable = on_lane(OPENING)(require_readable)
