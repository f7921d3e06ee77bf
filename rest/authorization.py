"""The header `Authorization`. It imports nothing of DRF, which imports what uses it while it is itself imported."""

from __future__ import annotations

import re

SCHEMES = frozenset({"bearer", "ticket"})
SCHEME = re.compile("[A-Za-z]{1,20}")


def wrong_scheme(authorization: str) -> str:
    """Return why an `Authorization` header names nobody; empty if its scheme is ours. It shows no part of a secret."""
    scheme, _, token = authorization.partition(" ")
    if not authorization or scheme.lower() in SCHEMES:
        return ""
    named = f"has the scheme {scheme}" if token and SCHEME.fullmatch(scheme) else "has no scheme"
    return f"The header Authorization {named}; expected the scheme Bearer before the token."
