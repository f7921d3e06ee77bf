"""Bearer tokens, and when they end."""

from __future__ import annotations

import base64
import json
import math
import re

from ..credentials import Credentials

# RFC 6750, 2.1, allows less. What is left out ends a token in a header, or shows that this is JSON or a page.
SENDABLE = re.compile(r"[A-Za-z0-9!#$%&'*+./:=?@^_`|~-]{1,65536}")


def bearer(token: str, *, now: float, expires_at: float | None = None) -> Credentials:
    """Return the credentials of this token. Without an end from its provider, a JSON Web Token says its own."""
    end = expires_at if expires_at is not None else _expiry(token)
    return Credentials({"Authorization": f"Bearer {token}"}, fetched_at=now, expires_at=end)


def seconds(value: object) -> float | None:
    """Return a positive number that came as one or as a text. None for anything else."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if 0 < number < math.inf else None


def _expiry(token: str) -> float | None:
    """Return `exp` of a JSON Web Token. It is not verified: it only says when to ask for the next."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    return seconds(claims.get("exp")) if isinstance(claims, dict) else None
