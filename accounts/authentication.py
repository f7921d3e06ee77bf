"""Turns credentials into a caller. REST and streams use the same functions."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import replace
from datetime import datetime
from importlib import import_module

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY
from django.db import connection
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
from rest.authorization import SCHEMES

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
            # DRF checks permissions before throttles, so it would never count a request that is refused here.
            limits.require(limits.Rate.API, limits.by_address(request._request))
            raise
        request._request.caller = caller  # type: ignore[attr-defined]  # for the audit trail
        return caller.user, caller

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def token_in(header: str) -> str | None:
    """Return the token of an `Authorization` header, `Bearer …` or `Ticket …`; None if there is none."""
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() in SCHEMES else None


def authenticate_token(token: str) -> Caller:
    """Return the caller behind an access token, API key or ticket, with one query. Raises `InvalidTokenError`.

    The user's present role counts. Scopes of the role that the token was issued without stay withheld.
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
    """Return the caller for a user whom Django's session middleware has authenticated."""
    return Caller(user=user, scopes=scopes_of(user), via=Via.SESSION, session_key=session_key)


def refreshed(caller: Caller) -> Caller | None:
    """Return the caller with the present rights; None if the credentials have expired or were revoked."""
    return refreshed_all([caller])[0]


def refreshed_all(callers: Sequence[Caller]) -> list[Caller | None]:
    """Refresh many callers, with one query for all who have signed in."""
    holders = _all_signed_in({caller.sign_in_id for caller in callers if caller.sign_in_id})
    now = timezone.now()
    return [_refreshed(caller, holders, now) for caller in callers]


def _refreshed(caller: Caller, signed_in: Mapping[uuid.UUID, User], now: datetime) -> Caller | None:
    if caller.expires_at is not None and caller.expires_at <= now:
        return None
    holder = signed_in.get(caller.sign_in_id) if caller.sign_in_id else _holder(caller)
    if holder is None:
        return None
    # Callers of one sign-in share the loaded user, but each credential restricts it in its own way.
    user = copy(holder)
    user.bounds = caller.user.bounds
    return replace(caller, user=user, scopes=scopes_of(user) - caller.withheld)


def _holder(caller: Caller) -> User | None:
    if caller.api_key_id is not None:
        return api_keys.holder(caller.api_key_id)
    if caller.ticket_id is not None:
        return tickets.holder(caller.ticket_id)
    return _still_active(caller)


# Written out: each request asks this, and Django takes longer to build the query than the database to answer it.
_SIGNED_IN = f"""
    SELECT u.*, s.auth_hash AS bound_to FROM {User._meta.db_table} u JOIN {SignIn._meta.db_table} s ON s.user_id = u.id
    WHERE s.id = %s AND s.ended_at IS NULL AND u.is_active
"""  # noqa: S608 - the names of two tables of ours


def _signed_in(sign_in_id: uuid.UUID) -> User | None:
    """Return the user of the sign-in, if it is still open and valid; as `_all_signed_in` for one."""
    stored_id = SignIn._meta.pk.get_db_prep_value(sign_in_id, connection)
    for user in User.objects.raw(_SIGNED_IN, [stored_id]):
        return user if user.bound_to == user.get_session_auth_hash() else None  # type: ignore[attr-defined]  # of the query
    return None


def _all_signed_in(sign_in_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, User]:
    """Return the users of these sign-ins that are still open and valid."""
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
    """Return the hash that the session is bound to; empty after a log-out."""
    store = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    return str(store.get(HASH_SESSION_KEY, ""))
