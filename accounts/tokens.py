"""The tokens that a sign-in hands out: what is in them, and what is required of one that comes back."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from rest_framework_simplejwt.exceptions import ExpiredTokenError, TokenError
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import AccessToken, Token

from accounts.identity import scopes_of
from accounts.models import Role, SignIn
from svops.errors import SVOpsError


class InvalidTokenError(SVOpsError):
    """The token was not made here, or is not good any more."""

    code = "invalid_token"
    http_status = HTTPStatus.UNAUTHORIZED


class TokenExpiredError(InvalidTokenError):
    """The token was good once; a refresh token gets another."""

    code = "token_expired"


class RefreshToken(Token):
    """Only its id is kept, in its `SignIn`; the library's own would store each token in full."""

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
    """A token with the rights that the user's role has now."""
    token = AccessToken()
    token["sub"] = str(sign_in.user.pk)
    token["sid"] = str(sign_in.pk)
    token["role"] = sign_in.user.role
    token["scopes"] = sorted(scopes_of(sign_in.user))
    return token


def new_refresh_token(sign_in_id: uuid.UUID, user_id: int) -> RefreshToken:
    token = RefreshToken()
    token["sub"] = str(user_id)
    token["sid"] = str(sign_in_id)
    return token


def read_access_token(raw: str) -> AccessClaims:
    """Check signature, algorithm, audience, issuer, kind and expiry; raise `InvalidTokenError`."""
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
    """As `read_access_token`, for the other kind."""
    token = _verified(RefreshToken, raw)
    try:
        return RefreshClaims(sign_in_id=uuid.UUID(token["sid"]), jti=str(token["jti"]))
    except (KeyError, TypeError, ValueError) as exc:
        raise InvalidTokenError("The token is not valid.") from exc


def _verified(kind: type[Token], raw: str) -> Token:
    if not raw.isascii():
        raise InvalidTokenError("The token is not valid.")
    try:
        return kind(raw)  # type: ignore[arg-type]  # the library takes the text, whatever its annotation says
    except ExpiredTokenError as exc:
        raise TokenExpiredError("The token has expired.") from exc
    except TokenError as exc:
        raise InvalidTokenError("The token is not valid.") from exc
