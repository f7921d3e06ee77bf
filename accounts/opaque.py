"""Opaque credentials, `<kind>_<prefix>_<secret>`: the prefix finds the row, the digest proves the secret."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from enum import StrEnum

from django.utils.crypto import constant_time_compare

from accounts.tokens import InvalidTokenError

INVALID = "The token is not valid."


class Kind(StrEnum):
    API_KEY = "svops"
    TICKET = "svopst"


@dataclass(frozen=True, kw_only=True)
class Opaque:
    """A credential: `text` is shown once, `prefix` and `digest` are stored."""

    prefix: str
    digest: str
    text: str = field(repr=False)


def new(kind: Kind, *, prefix: str = "") -> Opaque:
    """Make a new secret of 256 bits, with the given prefix or a new one."""
    prefix = prefix or secrets.token_hex(6)
    secret = secrets.token_urlsafe(32)
    return Opaque(prefix=prefix, digest=_digest(secret), text=f"{kind}_{prefix}_{secret}")


def is_a(kind: Kind, text: str) -> bool:
    return text.startswith(f"{kind}_")


def read(kind: Kind, text: str) -> Opaque:
    """Parse a presented credential. Raises `InvalidTokenError` if it is not of this kind."""
    found, _, rest = text.partition("_")
    prefix, _, secret = rest.partition("_")
    if found != kind or not (prefix and secret) or not text.isascii():
        raise InvalidTokenError(INVALID)
    return Opaque(prefix=prefix, digest=_digest(secret), text=text)


def matches(presented: Opaque, digest: str) -> bool:
    """Return whether `digest` belongs to this secret. The time taken does not depend on where they differ."""
    return bool(digest) and constant_time_compare(presented.digest, digest)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
