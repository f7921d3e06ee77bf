"""The tokens of a sign-in: what they contain, and the checks of a presented one."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from rest_framework_simplejwt.exceptions import ExpiredTokenError, TokenError
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import AccessToken, Token

from accounts import sessions
from accounts.identity import scopes_of
from accounts.models import Role, SignIn
from rest.errors import SVOpsError


class InvalidTokenError(SVOpsError):
    """The token was not made here, or is no longer valid."""

    code = "invalid_token"
    http_status = HTTPStatus.UNAUTHORIZED


class TokenExpiredError(InvalidTokenError):
    """The token was valid once; a refresh token gets a new one."""

    code = "token_expired"


class RefreshToken(Token):
    """Only its id is stored, in its `SignIn`; the library's own class would store each token in full."""

    token_type = "refresh"  # noqa: S105 - a kind of token, not a secret
    lifetime = api_settings.REFRESH_TOKEN_LIFETIME


@dataclass(frozen=True, kw_only=True)
class AccessClaims:
    user_id: int
    sign_in_id: uuid.UUID
    role: Role
    scopes: frozenset[str]
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class RefreshClaims:
    sign_in_id: uuid.UUID
    jti: str


def new_access_token(sign_in: SignIn) -> AccessToken:
    """Make a token with the present rights of the user's role."""
    token = AccessToken()
    token["exp"] = min(token["exp"], int(sessions.ends_at(sign_in.created_at).timestamp()))
    token["sub"] = str(sign_in.user.pk)
    token["sid"] = str(sign_in.pk)
    token["role"] = sign_in.user.role
    token["scopes"] = sorted(scopes_of(sign_in.user))
    return token


def new_refresh_token(sign_in_id: uuid.UUID, user_id: int, *, until: datetime) -> RefreshToken:
    token = RefreshToken()
    token["exp"] = int(until.timestamp())
    token["sub"] = str(user_id)
    token["sid"] = str(sign_in_id)
    return token


def read_access_token(raw: str) -> AccessClaims:
    """Check signature, algorithm, audience, issuer, kind and expiry. Raises `InvalidTokenError`."""
    token = _verified(AccessToken, raw)
    try:
        return AccessClaims(
            user_id=int(token["sub"]),
            sign_in_id=uuid.UUID(token["sid"]),
            role=Role(token["role"]),
            scopes=frozenset(token["scopes"]),
            expires_at=datetime.fromtimestamp(token["exp"], tz=UTC),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise InvalidTokenError("The token is not valid.") from exc


def read_refresh_token(raw: str) -> RefreshClaims:
    """Check a refresh token as `read_access_token` does."""
    token = _verified(RefreshToken, raw)
    try:
        return RefreshClaims(sign_in_id=uuid.UUID(token["sid"]), jti=str(token["jti"]))
    except (KeyError, TypeError, ValueError) as exc:
        raise InvalidTokenError("The token is not valid.") from exc


def _verified(kind: type[Token], raw: str) -> Token:
    if not raw.isascii():
        raise InvalidTokenError("The token is not valid.")
    try:
        return kind(raw)  # type: ignore[arg-type]  # the library takes text; its annotation is wrong
    except ExpiredTokenError as exc:
        raise TokenExpiredError("The token has expired.") from exc
    except TokenError as exc:
        raise InvalidTokenError("The token is not valid.") from exc
