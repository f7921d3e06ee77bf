"""Bearer tokens, and when they end."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping

from ..credentials import Credentials

# RFC 6750, 2.1, allows less. What is left out ends a token in a header, or shows that this is JSON or a page.
SENDABLE = re.compile(r"[A-Za-z0-9!#$%&'*+./:=?@^_`|~-]{1,65536}")


def bearer(token: str, *, now: float, expires_at: float | None = None) -> Credentials:
    """Return the credentials of this token. Without an end from its provider, a JSON Web Token says its own."""
    end = expires_at if expires_at is not None else _end(token, now)
    return Credentials({"Authorization": f"Bearer {token}"}, fetched_at=now, expires_at=end)


def seconds(value: object) -> float | None:
    """Return a positive number that came as one or as a text. None for anything else."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if 0 < number < math.inf else None


def _end(token: str, now: float) -> float | None:
    """Return when a JSON Web Token ends, by what it says itself.

    That of Airflow's Keycloak auth manager carries a token of Keycloak. When that one has ended, Airflow still accepts
    its own for hours, but allows nothing with it: 403, as for a missing right.
    """
    claims = _claims(token)
    carried = claims.get("access_token")
    ends = _end_of(claims, now), _end_of(_claims(carried), now) if isinstance(carried, str) else None
    return min((end for end in ends if end is not None), default=None)


def _end_of(claims: Mapping[str, object], now: float) -> float | None:
    """Return `exp` by our own clock. Nobody gives a token that has ended or has not begun: then the clocks differ."""
    end, begin = seconds(claims.get("exp")), seconds(claims.get("iat"))
    if end is None or (begin is None and end <= now):
        return None
    return now + end - begin if begin is not None and (begin > now or end <= now) else end


def _claims(token: str) -> dict[str, object]:
    """Return the claims of a JSON Web Token, unverified: they only say when to ask for the next. Else nothing."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}
    return claims if isinstance(claims, dict) else {}
