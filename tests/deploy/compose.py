"""The part of Docker Compose that this project's file needs: substitution, and the start of each service."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent.parent
COMPOSE_FILE = REPOSITORY / "docker-compose.yml"

VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>[A-Z0-9_]+)(?::(?P<operator>[-?])(?P<word>[^}]*))?\})")


class UnsetError(Exception):
    """A required variable has no value."""


@dataclass(frozen=True)
class Use:
    """One `${NAME}` of the file: its name, `-` or `?`, and the default or message behind it."""

    name: str
    operator: str | None
    word: str | None


def uses(value: Any) -> Iterator[Use]:
    for text in _texts(value):
        for match in VARIABLE.finditer(text):
            if not match["escaped"]:
                yield Use(match["name"], match["operator"], match["word"])


def substitute(value: Any, variables: Mapping[str, str]) -> Any:
    """Return `value` with each `${NAME}` replaced as Compose does; an empty value counts as unset."""

    def replace(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        if found := variables.get(match["name"]):
            return found
        if match["operator"] == "?":
            raise UnsetError(match["name"])
        return match["word"] or ""

    return _map(value, lambda text: VARIABLE.sub(replace, text))


def parse() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
    return document


def services(variables: Mapping[str, str], ours: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Return the services as Compose starts them with this `.env` and this `svops.env`."""
    found: dict[str, dict[str, Any]] = substitute(parse()["services"], variables)
    for service in found.values():
        if "env_file" in service:
            service["environment"] = dict(ours or {}) | service.get("environment", {})
    return found


def read_env(text: str) -> dict[str, str]:
    """Return the variables of a `.env` file, without those in comments."""
    lines = (line.partition("=") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in lines}


def is_one_shot(service: Mapping[str, Any]) -> bool:
    return bool(service["restart"] == "no")


def _texts(value: Any) -> Iterator[str]:
    collected: list[str] = []

    def keep(text: str) -> str:
        collected.append(text)
        return text

    _map(value, keep)
    yield from collected


def _map(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _map(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_map(item, change) for item in value]
    return value
