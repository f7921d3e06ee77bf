"""Typed readers of environment variables; a wrong value stops the start with its name and what was expected.

Every reader also accepts `NAME_FILE`, a file that holds the value, as containers get their secrets. A variable that is
not set falls back to `runtime.env` in `SVOPS_HOME`, which `make up` writes: `manage.py` beside a running platform talks
to that platform.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from tempfile import NamedTemporaryFile
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from rest import values
from rest.proxies import Proxies

# A key of this length and variety cannot be guessed, if it is random.
KEY_LENGTH = 32
KEY_VARIETY = 10
EXAMPLE_KEYS = ("django-insecure", "changeme", "change-me", "change me", "insecure", "secret-key", "your-secret")
STRONG_KEY = (
    f"at least {KEY_LENGTH} random characters are expected, as "
    "`python -c 'import secrets; print(secrets.token_urlsafe(50))'` prints"
)
# One of these shows that a directory is a home of SVOps. `runner.home` has the same: it imports nothing from here.
OUR_FILES = frozenset({"secret_key", "svops.sqlite3", "secrets", "run", "logs", "airflow"})

HOME = Path(os.environ.get("SVOPS_HOME", ".svops")).absolute()
RUNTIME_FILE = HOME / "runtime.env"


def _runtime() -> dict[str, str]:
    if not RUNTIME_FILE.is_file():
        return {}
    lines = (line.partition("=") for line in RUNTIME_FILE.read_text().splitlines())
    return {name: value for name, separator, value in lines if separator}


_FALLBACK = _runtime()
_read: set[str] = set()


def names_read() -> frozenset[str]:
    """Return the names of all variables that were read so far."""
    return frozenset(_read)


def _raw(name: str) -> str | None:
    """Return the value of `name`, of its file or of the running platform; an empty value counts as unset."""
    _read.add(name)
    if value := os.environ.get(name):
        return value
    if path := os.environ.get(f"{name}_FILE"):
        try:
            return Path(path).read_text().strip()
        except OSError as exc:
            raise ImproperlyConfigured(f"{name}_FILE={path!r} cannot be read: {exc.strerror}") from exc
    return _FALLBACK.get(name) or None


def text(name: str, *, default: str = "") -> str:
    return _raw(name) or default


def text_or_file(name: str) -> tuple[str, str]:
    """Read a text, or its file, which may change later. Return both: the text of now, and the file if there is one."""
    path = os.environ.get(f"{name}_FILE", "")
    if path and os.environ.get(name):
        raise ImproperlyConfigured(f"{name} and {name}_FILE are both set: one of them is expected")
    return _raw(name) or "", path


def file(name: str) -> str:
    """Read the path of a file that can be read."""
    return _checked(name, values.file)


def _checked(name: str, check: Callable[[str], str], *, default: str = "", repeated: bool = True) -> str:
    """Read a text that is checked if there is one. The error does not repeat what may be a secret."""
    value = _raw(name) or default
    try:
        return check(value) if value else ""
    except ValueError as exc:
        raise ImproperlyConfigured(f"{name}={value!r} {exc}" if repeated else f"{name} {exc}") from exc


def authorities(name: str) -> str:
    """Read the path of a file with certificates of authorities, in PEM."""
    return _checked(name, values.authorities)


def certificate(name: str, *, key: str) -> str:
    """Read the path of a client's certificate, whose key is in the file `key`, or else in the same file."""
    path = _checked(name, lambda path: values.certificate(path, key=key))
    if key and not path:
        raise ImproperlyConfigured(f"{name} is not set: the certificate of the key {key!r} is expected")
    return path


def headers(name: str) -> dict[str, str]:
    """Read a JSON object of HTTP headers. The error does not repeat the values: they may be secrets."""
    try:
        given = json.loads(_raw(name) or "{}")
    except ValueError:
        given = None
    try:
        return values.headers(given)
    except ValueError as exc:
        raise ImproperlyConfigured(f"{name} {exc}") from None


def program(name: str) -> list[str]:
    """Read a command, split as a shell does. Its program must be there."""
    try:
        words = shlex.split(_raw(name) or "")
    except ValueError as exc:
        raise ImproperlyConfigured(f"{name} is not a command: a quotation mark has no end") from exc
    try:
        return list(values.program(words))
    except ValueError as exc:
        raise ImproperlyConfigured(f"{name} {exc}") from exc


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
    return _checked_number(name, raw, values.seconds, kind="a number of seconds")


def _checked_number(name: str, raw: str, check: Callable[[float], float], *, kind: str) -> float:
    try:
        value = float(raw)
    except ValueError as exc:
        raise ImproperlyConfigured(f"{name}={raw!r} is not {kind}") from exc
    try:
        return check(value)
    except ValueError as exc:
        raise ImproperlyConfigured(f"{name}={raw!r} {exc}") from exc


def share(name: str, *, default: float) -> float:
    """Read a part of the whole: more than 0, at most 1."""
    raw = _raw(name) or str(default)
    try:
        value = float(raw)
    except ValueError as exc:
        raise ImproperlyConfigured(f"{name}={raw!r} is not a number") from exc
    if not 0 < value <= 1:
        raise ImproperlyConfigured(f"{name}={raw!r} must be more than 0 and at most 1")
    return value


def choice(name: str, *, default: str, choices: tuple[str, ...]) -> str:
    value = _raw(name) or default
    if value not in choices:
        raise ImproperlyConfigured(f"{name}={value!r} must be one of {', '.join(choices)}")
    return value


def items(name: str, *, default: tuple[str, ...] = ()) -> list[str]:
    """Read a comma-separated list."""
    raw = _raw(name)
    return [part.strip() for part in raw.split(",") if part.strip()] if raw else list(default)


def origins(name: str) -> list[str]:
    """Read a comma-separated list of origins of web pages, each as a browser names it."""
    given = items(name)
    for origin in given:
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or f"{parts.scheme}://{parts.netloc}" != origin or "*" in origin:
            raise ImproperlyConfigured(f"{name}: {origin!r} is no origin; expected one such as https://app.example.com")
    return given


def networks(name: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Read a comma-separated list of networks in CIDR notation."""
    try:
        return tuple(ip_network(item) for item in items(name))
    except ValueError as exc:
        raise ImproperlyConfigured(f"{name}={_raw(name)!r} is not a list of networks like 10.0.0.0/8") from exc


def web_address(name: str, *, default: str = "", may_have_user: bool = False) -> str:
    """Read an address of http or https, perhaps with a path. The error does not repeat it: it may hold a password."""
    check = partial(values.web_address, may_have_user=may_have_user)
    return _checked(name, check, default=default, repeated=False)


def url(name: str, *, default: str, schemes: tuple[str, ...]) -> str:
    value = _raw(name) or default
    if value and urlsplit(value).scheme not in schemes:
        raise ImproperlyConfigured(f"{name}={value!r} must start with {' or '.join(f'{s}://' for s in schemes)}")
    return value


def secure_url(name: str, *, default: str = "") -> str:
    """Read an `https://` URL; `http://` is allowed only to this machine."""
    return _checked(name, values.secure_url, default=default)


def per_second(name: str) -> float:
    """Read a number of requests in a second; 0 and unset are no limit."""
    return _checked_number(name, _raw(name) or "0", values.per_second, kind="a number")


def rate(name: str, *, default: str) -> str:
    """Read a number of requests in a time, or `off`."""
    value = _raw(name) or default
    if value != "off" and not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour)", value):
        raise ImproperlyConfigured(f"{name}={value!r} must be like 600/minute (or second, hour), or off")
    return value


def proxies(name: str) -> Proxies:
    """Read the proxies in front of us: how many there are (true is one), or the networks that they are in."""
    raw = (_raw(name) or "").strip().lower()
    if raw.isdecimal():
        return Proxies(count=int(raw))
    if "." in raw or ":" in raw:
        return Proxies(networks=tuple(networks(name)))
    return Proxies(count=int(boolean(name, default=False)))


def secret_key(name: str, *, embedded: bool) -> str:
    """Read the key; the embedded set-up makes one at its first start and keeps it in `SVOPS_HOME`."""
    if value := _raw(name):
        if weakness := _weakness(value):
            # Without the value: this message ends up in logs.
            raise ImproperlyConfigured(f"{name} is too weak ({weakness}): {STRONG_KEY}")
        return value
    if not embedded:
        raise ImproperlyConfigured(f"{name} is not set: a long random string is expected when DATABASE_URL is given")
    kept = HOME / "secret_key"
    private_home()
    if not kept.exists():
        _keep(kept, secrets.token_urlsafe(50))
    return kept.read_text()


def _weakness(key: str) -> str:
    """Return why somebody could guess the key; "" if nobody can."""
    if len(key) < KEY_LENGTH:
        return f"{len(key)} characters"
    if len(set(key)) < KEY_VARIETY:
        return f"{len(set(key))} different characters"
    return "an example key" if key.lower().startswith(EXAMPLE_KEYS) else ""


def private_home() -> None:
    """Make `SVOPS_HOME` if it is missing, and close it and its files to everybody but its owner.

    Raises `ImproperlyConfigured` for a directory that is open to others and is not only ours, such as `/tmp`.
    """
    try:
        HOME.mkdir(mode=0o700, parents=True, exist_ok=True)
        entries = list(HOME.iterdir())
        mode = HOME.stat().st_mode
        if mode & 0o077:
            if mode & stat.S_ISVTX or (entries and not any(entry.name in OUR_FILES for entry in entries)):
                raise ImproperlyConfigured(
                    f"SVOPS_HOME={str(HOME)!r} is open to others and holds other files: its own directory is expected"
                )
            HOME.chmod(0o700)
        for entry in entries:
            # SQLite removes its side files at any time.
            with suppress(FileNotFoundError):
                if not entry.is_symlink() and entry.stat().st_mode & 0o077:
                    entry.chmod(0o700 if entry.is_dir() else 0o600)
    except OSError as exc:
        raise ImproperlyConfigured(f"SVOPS_HOME={str(HOME)!r} cannot be made private: {exc.strerror}") from exc


def _keep(path: Path, content: str) -> None:
    """Make a file that is whole or not there at all; a second process keeps the file of the first."""
    with NamedTemporaryFile("w", dir=path.parent) as file:  # made with mode 600
        file.write(content)
        file.flush()
        with suppress(FileExistsError):
            path.hardlink_to(file.name)
