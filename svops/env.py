"""Typed readers of environment variables; a wrong value stops the start with its name and what was expected.

Every reader also accepts `NAME_FILE`, a file that holds the value, as container secrets are handed over.
Variables that are not set fall back to `runtime.env` in `SVOPS_HOME`, which `make up` writes, so that
`manage.py` beside a running platform talks to that platform.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from tempfile import NamedTemporaryFile
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

HOME = Path(os.environ.get("SVOPS_HOME", ".svops")).absolute()
RUNTIME_FILE = HOME / "runtime.env"


def _runtime() -> dict[str, str]:
    if not RUNTIME_FILE.is_file():
        return {}
    lines = (line.partition("=") for line in RUNTIME_FILE.read_text().splitlines())
    return {name: value for name, separator, value in lines if separator}


_FALLBACK = _runtime()


def _raw(name: str) -> str | None:
    """The value of `name`, of the file that `NAME_FILE` names, or of the running platform; empty counts as unset."""
    if value := os.environ.get(name):
        return value
    if path := os.environ.get(f"{name}_FILE"):
        try:
            return Path(path).read_text().strip()
        except OSError as exc:
            raise ImproperlyConfigured(f"{name}_FILE={path!r} can not be read: {exc.strerror}") from exc
    return _FALLBACK.get(name) or None


def text(name: str, *, default: str = "") -> str:
    return _raw(name) or default


def boolean(name: str, *, default: bool) -> bool:
    raw = (_raw(name) or str(default)).lower()
    if raw in {"1", "true", "yes", "on"}:
        return True
    if raw in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name}={raw!r} is not a boolean (true or false)")


def integer(name: str, *, default: int, minimum: int = 0, maximum: int | None = None) -> int:
    raw = _raw(name) or str(default)
    try:
        value = int(raw)
    except ValueError as exc:
        raise ImproperlyConfigured(f"{name}={raw!r} is not a whole number") from exc
    if value < minimum or (maximum is not None and value > maximum):
        bounds = f"at least {minimum}" if maximum is None else f"between {minimum} and {maximum}"
        raise ImproperlyConfigured(f"{name}={raw!r} must be {bounds}")
    return value


def seconds(name: str, *, default: float) -> float:
    raw = _raw(name) or str(default)
    try:
        value = float(raw)
    except ValueError as exc:
        raise ImproperlyConfigured(f"{name}={raw!r} is not a number of seconds") from exc
    if not 0 < value < float("inf"):
        raise ImproperlyConfigured(f"{name}={raw!r} must be a positive number of seconds")
    return value


def choice(name: str, *, default: str, choices: tuple[str, ...]) -> str:
    value = _raw(name) or default
    if value not in choices:
        raise ImproperlyConfigured(f"{name}={value!r} must be one of {', '.join(choices)}")
    return value


def items(name: str, *, default: tuple[str, ...] = ()) -> list[str]:
    """A comma-separated list."""
    raw = _raw(name)
    return [part.strip() for part in raw.split(",") if part.strip()] if raw else list(default)


def networks(name: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """A comma-separated list of networks in CIDR notation."""
    try:
        return tuple(ip_network(item) for item in items(name))
    except ValueError as exc:
        raise ImproperlyConfigured(f"{name}={_raw(name)!r} is not a list of networks like 10.0.0.0/8") from exc


def url(name: str, *, default: str, schemes: tuple[str, ...]) -> str:
    value = _raw(name) or default
    if value and urlsplit(value).scheme not in schemes:
        raise ImproperlyConfigured(f"{name}={value!r} must start with {' or '.join(f'{s}://' for s in schemes)}")
    return value


def secure_url(name: str, *, default: str = "") -> str:
    """An `https://` URL; `http://` only to this machine itself."""
    value = _raw(name) or default
    parts = urlsplit(value)
    allowed = {"https", "http"} if parts.hostname in {"localhost", "127.0.0.1", "::1"} else {"https"}
    if value and (parts.scheme not in allowed or not parts.hostname):
        raise ImproperlyConfigured(f"{name}={value!r} must start with https:// (http:// only to localhost)")
    return value


def rate(name: str, *, default: str) -> str:
    """A number of requests in a time, or `off`."""
    value = _raw(name) or default
    if value != "off" and not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour)", value):
        raise ImproperlyConfigured(f"{name}={value!r} must be like 600/minute (or second, hour), or off")
    return value


def proxies(name: str, *, default: bool) -> int:
    """How many proxies stand before us; true is one."""
    raw = (_raw(name) or str(default)).lower()
    return int(raw) if raw.isdecimal() else int(boolean(name, default=default))


def secret_key(name: str, *, embedded: bool) -> str:
    """The key, or, on the embedded set-up, one that is made once and kept in `SVOPS_HOME`."""
    if value := _raw(name):
        return value
    if not embedded:
        raise ImproperlyConfigured(f"{name} is not set: a long random string is expected when DATABASE_URL is given")
    kept = HOME / "secret_key"
    HOME.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not kept.exists():
        _keep(kept, secrets.token_urlsafe(50))
    return kept.read_text()


def _keep(path: Path, content: str) -> None:
    """Make a file that is there whole or not at all; who comes second keeps the first one's."""
    with NamedTemporaryFile("w", dir=path.parent) as file:  # made with mode 600
        file.write(content)
        file.flush()
        with suppress(FileExistsError):
            path.hardlink_to(file.name)
