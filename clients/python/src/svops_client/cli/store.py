"""Where the command keeps the address of the platform and the API key."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import keyring
from keyring.errors import KeyringError

SERVICE = "svops"


def directory() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "svops"


def known_url() -> str | None:
    """Return the address of the last login."""
    url = _read("config.json").get("url")
    return str(url) if url else None


def key_of(url: str) -> str | None:
    """Return the key for this address: from the keyring, else from the file."""
    with suppress(KeyringError):
        if key := keyring.get_password(SERVICE, url):
            return key
    key = _read("keys.json").get(url)
    return str(key) if key else None


def keep(url: str, key: str) -> str:
    """Keep the key, and the address for the next commands. Return where, in words."""
    _write("config.json", {"url": url})
    try:
        keyring.set_password(SERVICE, url, key)
    except KeyringError:
        _write("keys.json", {**_read("keys.json"), url: key})
        return str(directory() / "keys.json")
    _write("keys.json", {one: value for one, value in _read("keys.json").items() if one != url})
    return "the keyring"


def forget(url: str) -> None:
    with suppress(KeyringError):
        keyring.delete_password(SERVICE, url)
    _write("keys.json", {one: value for one, value in _read("keys.json").items() if one != url})


def _read(name: str) -> dict[str, Any]:
    with suppress(FileNotFoundError, ValueError):
        found: dict[str, Any] = json.loads((directory() / name).read_text())
        return found
    return {}


def _write(name: str, content: dict[str, Any]) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    directory().mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = directory() / f".{name}.{os.getpid()}"
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(content, file)
    temporary.replace(directory() / name)
