"""Masks secrets in texts that SVOps quotes from elsewhere, before they leave.

Everything that quotes goes through `mask` or `mask_all`: error answers, reasons, events, log lines, messages. What a
caller has given as data, such as the parameters of a run, is not changed. A mask is a last line: who may read a text
at all is decided before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

MASK = "***"

# Each pattern is bounded in length, so that a hostile text takes time in proportion to its length. What stands before
# and after the secret is kept by the groups `before` and `after`.
_PATTERNS = [
    # scheme://user:password@host, also without a user, and with "/" or "@" in a password that nobody has escaped. What
    # looks like a port is none.
    r"(?P<before>://[^\s/:@?#'\"<>]{0,255}:)(?!\d{1,5}(?:[/?#'\"\s]|$))"
    r"(?:[^\s/'\"<>]{1,512}|[^\s'\"<>]{1,512}?)(?P<after>@(?=[^\s@/'\"<>]))",
    # Authorization: Basic dXNlcjpwYXNz, Bearer …
    r"(?P<before>\bauthorization['\"]?\s{0,4}[:=]\s{0,4}['\"]?(?:basic|bearer|ticket|token|digest)\s{1,4})[^\s'\",;]{1,4096}",
    r"(?P<before>\bbearer\s{1,4})[\w.~+/=-]{16,4096}",
    # password=…, "api_key": "…", AWS_SECRET_ACCESS_KEY='…'
    r"(?P<before>(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key(?:[_-]?id)?|private[_-]?key"
    r"|secret[_-]?key|client[_-]?secret|credentials?|signature|fernet[_-]?key|\bticket)"
    r"(?:['\"]?\s{0,4}[:=]\s{0,4}))(?:\"[^\"\n]{1,1024}\"|'[^'\n]{1,1024}'|[^\s'\"&,;)\]}<>]{1,1024})",
    # Tokens that show what they are: ours, JSON Web Tokens, those of well-known services, keys in PEM.
    r"\bsvopst?_[0-9a-f]{12}_[\w-]{16,64}",
    r"\bwhsec_[\w+/=-]{16,256}",
    r"\beyJ[\w-]{8,2048}\.[\w-]{8,4096}\.[\w-]{0,1024}",
    r"\bgh[opsur]_\w{20,255}|\bgithub_pat_\w{20,255}|\bglpat-[\w-]{16,255}",
    r"\bxox[abeoprs]-[\w-]{10,255}",
    r"(?P<before>\bhooks\.slack\.com/(?:services|workflows|triggers)/)[\w/-]{8,255}",
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[\w-]{35}|\bsk-[\w-]{20,255}|\b(?:sk|rk)_live_\w{16,255}",
    r"(?P<before>-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----)[^-]{1,16384}(?P<after>-----END|$)",
]
_COMPILED = [re.compile(pattern, re.IGNORECASE) for pattern in _PATTERNS]


_PARAMETER = re.compile(r"(?<=[?&;])(?P<name>[^=&;\s]{1,256})=[^&;\s\"]*")
# Parts of names of URL parameters whose values are as good as a password.
_SECRET_NAMES = ("ticket", "token", "secret", "password", "api_key", "apikey", "signature")
# The provider of single sign-on sends it back to us.
_SIGN_IN_CODE = "code"


def mask_queries(text: str) -> str:
    """Replace the values of secret parameters of URLs, also of those whose name is percent-encoded."""

    def shown(found: re.Match[str]) -> str:
        name = unquote_plus(found["name"]).lower()
        is_secret = name == _SIGN_IN_CODE or any(part in name for part in _SECRET_NAMES)
        return f"{found['name']}={MASK}" if is_secret else found[0]

    return _PARAMETER.sub(shown, text) if "=" in text else text


def mask(text: str) -> str:
    """Return the text with each secret in it replaced by `***`."""
    if not text:
        return text
    text = mask_queries(text)
    for pattern in _COMPILED:
        text = pattern.sub(_replaced, text)
    return text


def _replaced(found: re.Match[str]) -> str:
    kept = found.groupdict()
    return f"{kept.get('before') or ''}{MASK}{kept.get('after') or ''}"


def mask_all(value: Any) -> Any:
    """Return JSON data with `mask` applied to each text in it, however deep. Names are kept."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {name: mask_all(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [mask_all(inner) for inner in value]
    return value
