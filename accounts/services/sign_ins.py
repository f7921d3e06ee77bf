"""Signing in and out, and the tokens of a sign-in."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import update_last_login
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from rest_framework_simplejwt.settings import api_settings

from accounts import audit, lockout, sessions, tokens
from accounts.models import EndReason, Identity, SignIn, User
from accounts.services import factors
from accounts.tokens import InvalidTokenError
from rest.errors import SVOpsError

logger = logging.getLogger(__name__)


class InvalidCredentialsError(SVOpsError):
    """No active user has this name and password. The error does not say which of the two is wrong."""

    code = "invalid_credentials"
    http_status = HTTPStatus.UNAUTHORIZED


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The tokens that a sign-in gives out."""

    access_token: str
    refresh_token: str
    expires_in: int
    user: User


def login(*, username: str, password: str, address: str, code: str = "") -> Tokens:
    """Sign in by name, password and, if the account has a second factor, a code. Raises as `check_credentials`."""
    return sign_in(user=check_credentials(username=username, password=password, address=address, code=code))


def check_credentials(*, username: str, password: str, address: str, code: str) -> User:
    """Return the user whose credentials these are. The API and the sign-in forms share this.

    Raises `LockedOutError` for a try that comes too early after failed ones, and `SecondFactorRequiredError`.
    Django hashes the password of an unknown user too, so that the time of the answer reveals nothing either.
    """
    # Outside of a transaction: hashing takes a while, and SQLite has one writer.
    username = User.normalize_username(username)
    lockout.begin(username=username, address=address)
    user = ModelBackend().authenticate(None, username=username, password=password)
    if not isinstance(user, User):
        audit.sign_in_failed(username)
        raise InvalidCredentialsError("The username or the password is wrong.")
    # A wrong code counts as a failed try: `succeed` is not reached.
    factors.check_code(user=user, code=code)
    lockout.succeed(username=username, address=address)
    return user


@transaction.atomic
def sign_in(*, user: User, identity: Identity | None = None) -> Tokens:
    """Start a family of tokens for a user whose credentials we, or the provider of `identity`, have checked."""
    now, origin = timezone.now(), audit.present_origin()
    sign_in_id = uuid.uuid4()
    refresh_token = tokens.new_refresh_token(sign_in_id, user.pk, until=_expiry(now, now))
    started = SignIn.objects.create(
        id=sign_in_id,
        user=user,
        refresh_jti=refresh_token["jti"],
        auth_hash=user.get_session_auth_hash(),
        created_at=now,
        refreshed_at=now,
        expires_at=_expiry(now, now),
        address=origin.address,
        device=origin.device,
    )
    update_last_login(None, user)  # type: ignore[arg-type]  # a signal's receiver that does not use the sender
    audit.signed_in(user, identity)
    logger.info("signed in", extra={"user_id": user.pk, "sign_in_id": str(sign_in_id)})
    return _tokens(started, refresh_token)


def refresh(*, refresh_token: str) -> Tokens:
    """Exchange a refresh token for new tokens, once.

    A token that was used before ends the whole family: one of its two holders has stolen it, and nobody can say
    which.
    """
    claims = tokens.read_refresh_token(refresh_token)
    # Raise outside of the transaction: inside, the error would roll back the end of the family.
    with transaction.atomic():
        renewed = _rotate(claims)
    if renewed is None:
        raise InvalidTokenError("The refresh token is no longer valid; sign in again.")
    return renewed


def _rotate(claims: tokens.RefreshClaims) -> Tokens | None:
    found = SignIn.objects.open().select_related("user").filter(pk=claims.sign_in_id).first()
    if found is None or not found.is_bound or not found.user.is_active:
        return None
    now, origin = timezone.now(), audit.present_origin()
    expires_at = _expiry(found.created_at, now)
    if expires_at <= now:
        return None
    new = tokens.new_refresh_token(found.pk, found.user.pk, until=expires_at)
    # The condition decides between two callers that present the same token at the same time.
    rotated = (
        SignIn.objects.open()
        .filter(pk=found.pk, refresh_jti=claims.jti)
        .update(
            refresh_jti=new["jti"],
            refreshed_at=now,
            expires_at=expires_at,
            address=origin.address,
            device=origin.device,
        )
    )
    if not rotated:
        end_sign_in(sign_in_id=found.pk, reason=EndReason.REUSE)
        logger.warning("refresh token reused", extra={"user_id": found.user.pk, "sign_in_id": str(found.pk)})
        return None
    return _tokens(found, new)


def _expiry(began: datetime, now: datetime) -> datetime:
    """Return when the family ends if it is not refreshed; refreshing never takes it beyond the absolute life."""
    unused: datetime = now + api_settings.REFRESH_TOKEN_LIFETIME
    return min(unused, sessions.ends_at(began))


def _tokens(sign_in: SignIn, refresh_token: tokens.RefreshToken) -> Tokens:
    return Tokens(
        access_token=str(tokens.new_access_token(sign_in)),
        refresh_token=str(refresh_token),
        expires_in=int(api_settings.ACCESS_TOKEN_LIFETIME.total_seconds()),
        user=sign_in.user,
    )


def logout(*, refresh_token: str) -> None:
    """End the family of the refresh token, even if the token itself was exchanged already."""
    end_sign_in(sign_in_id=tokens.read_refresh_token(refresh_token).sign_in_id)


@transaction.atomic
def end_sign_in(*, sign_in_id: uuid.UUID, reason: EndReason = EndReason.LOGOUT) -> None:
    """End one sign-in: its access tokens and its refresh token are refused from now on."""
    ended = SignIn.objects.open().filter(pk=sign_in_id).update(ended_at=timezone.now(), end_reason=reason)
    if ended:
        sign_in = SignIn.objects.select_related("user").get(pk=sign_in_id)
        actor = sign_in.user if reason == EndReason.LOGOUT else None
        audit.record("auth.signed_out", sign_in.user, after={"reason": reason}, actor=actor)


@transaction.atomic
def sign_out_everywhere(*, user: User) -> None:
    """End every token, API key, ticket and browser session of the user."""
    User.objects.filter(pk=user.pk).update(credential_version=F("credential_version") + 1)
    user.refresh_from_db(fields=["credential_version"])
    now = timezone.now()
    user.sign_ins.open().update(ended_at=now, end_reason=EndReason.REVOKED)
    user.api_keys.filter(revoked_at__isnull=True).update(revoked_at=now)
    user.tickets.filter(revoked_at__isnull=True).update(revoked_at=now)
    user.browser_sessions.all().delete()
    audit.record("user.signed_out_everywhere", user)
    logger.info("signed out everywhere", extra={"user_id": user.pk})


def forget_sign_ins(*, expired_before: datetime) -> int:
    """Delete the sign-ins whose last token expired before then. Return how many."""
    return SignIn.objects.filter(expires_at__lt=expired_before).delete()[0]
