"""From credentials to a caller: for REST by header or session, for streams by the same functions."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import replace
from datetime import datetime
from importlib import import_module

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.request import Request

from accounts import api_keys, limits, opaque, tickets
from accounts.api_keys import authenticate_key
from accounts.identity import ROLE_SCOPES, Caller, Via, scopes_of
from accounts.models import SignIn, User
from accounts.opaque import Kind
from accounts.tickets import authenticate_ticket
from accounts.tokens import InvalidTokenError, TokenExpiredError, read_access_token

__all__ = [
    "InvalidTokenError",
    "TokenAuthentication",
    "TokenExpiredError",
    "authenticate_ticket",
    "authenticate_token",
    "caller_of",
    "refreshed",
    "refreshed_all",
    "token_in",
]


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer <access token, API key or ticket>`; `request.auth` is the `Caller`."""

    def authenticate(self, request: Request) -> tuple[User, Caller] | None:
        token = token_in(get_authorization_header(request).decode("latin-1"))
        if token is None:
            return None
        try:
            caller = authenticate_token(token)
        except InvalidTokenError:
            # Permissions are looked at before throttles, so what is refused here would never be counted.
            limits.require(limits.Rate.API, limits.by_address(request._request))
            raise
        request._request.caller = caller  # type: ignore[attr-defined]  # for the audit trail
        return caller.user, caller

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def token_in(header: str) -> str | None:
    """The token of an `Authorization` header: `Bearer …`, or `Ticket …`; None when it carries none."""
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() in {"bearer", "ticket"} else None


def authenticate_token(token: str) -> Caller:
    """Whose access token, API key or ticket this is, in one query; raises `InvalidTokenError`.

    What the token gave up of its role's rights stays given up; apart from that the role counts as it is now.
    """
    if opaque.is_a(Kind.API_KEY, token):
        return authenticate_key(token)
    if opaque.is_a(Kind.TICKET, token):
        return authenticate_ticket(token)
    claims = read_access_token(token)
    user = _signed_in(claims.sign_in_id)
    if user is None or user.pk != claims.user_id:
        raise InvalidTokenError("The token was revoked; sign in again.")
    withheld = ROLE_SCOPES[claims.role] - claims.scopes
    return Caller(
        user=user,
        scopes=scopes_of(user) - withheld,
        via=Via.TOKEN,
        withheld=withheld,
        expires_at=claims.expires_at,
        sign_in_id=claims.sign_in_id,
    )


def caller_of(user: User, *, session_key: str | None = None) -> Caller:
    """The caller that Django's session middleware has authenticated."""
    return Caller(user=user, scopes=scopes_of(user), via=Via.SESSION, session_key=session_key)


def refreshed(caller: Caller) -> Caller | None:
    """The caller with the rights of this moment; None when the credentials have expired or were revoked."""
    return refreshed_all([caller])[0]


def refreshed_all(callers: Sequence[Caller]) -> list[Caller | None]:
    """The same for many, with one query for all who have signed in."""
    holders = _all_signed_in({caller.sign_in_id for caller in callers if caller.sign_in_id})
    now = timezone.now()
    return [_refreshed(caller, holders, now) for caller in callers]


def _refreshed(caller: Caller, signed_in: Mapping[uuid.UUID, User], now: datetime) -> Caller | None:
    if caller.expires_at is not None and caller.expires_at <= now:
        return None
    holder = signed_in.get(caller.sign_in_id) if caller.sign_in_id else _holder(caller)
    if holder is None:
        return None
    # Callers share what was found of their sign-in, but not what their credentials narrow it to.
    user = copy(holder)
    user.bounds = caller.user.bounds
    return replace(caller, user=user, scopes=scopes_of(user) - caller.withheld)


def _holder(caller: Caller) -> User | None:
    if caller.api_key_id is not None:
        return api_keys.holder(caller.api_key_id)
    if caller.ticket_id is not None:
        return tickets.holder(caller.ticket_id)
    return _still_active(caller)


def _signed_in(sign_in_id: uuid.UUID) -> User | None:
    return _all_signed_in({sign_in_id}).get(sign_in_id)


def _all_signed_in(sign_in_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, User]:
    """Who signed in there and still is."""
    if not sign_in_ids:
        return {}
    found = SignIn.objects.open().select_related("user").filter(pk__in=sign_in_ids)
    return {sign_in.pk: sign_in.user for sign_in in found if sign_in.is_bound and sign_in.user.is_active}


def _still_active(caller: Caller) -> User | None:
    user = User.objects.filter(pk=caller.user.pk, is_active=True).first()
    if user is None:
        return None
    bound_to = caller.user.get_session_auth_hash()
    if caller.session_key is not None:
        bound_to = _session_hash(caller.session_key)
    return user if constant_time_compare(bound_to, user.get_session_auth_hash()) else None


def _session_hash(session_key: str) -> str:
    """The hash that the session is bound to; empty after a log-out."""
    store = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    return str(store.get(HASH_SESSION_KEY, ""))
