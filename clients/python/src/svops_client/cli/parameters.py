"""`--param name=value`, typed by the JSON schema of the workflow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer


def parameters_of(given: Iterable[str], file: Path | None, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of the file, and over them those of the command."""
    parameters: dict[str, Any] = _of_file(file) if file else {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"expected name=value, not {one!r}", param_hint="--param")
        parameters[name] = _typed(name, value, schema.get("properties", {}).get(name, {}))
    return parameters


def _of_file(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as exc:
        raise typer.BadParameter(f"{file}: {exc}", param_hint="--params") from exc
    if not isinstance(content, dict):
        raise typer.BadParameter(f"{file}: expected a JSON object", param_hint="--params")
    return content


def _typed(name: str, text: str, schema: Mapping[str, Any]) -> Any:
    """Return the value as the schema wants it. A text is taken as it is; everything else is JSON."""
    wanted = types_of(schema)
    if wanted == {"string"}:
        return text
    with suppress(ValueError):
        value = json.loads(text)
        if not wanted or _json_type(value) & wanted:
            return value
    if not wanted or "string" in wanted:
        return text
    raise typer.BadParameter(f"{name}: expected {' or '.join(sorted(wanted))}, not {text!r}", param_hint="--param")


def types_of(schema: Mapping[str, Any]) -> set[str]:
    """Return the JSON types that a schema allows; none if it does not say."""
    given = schema.get("type", [])
    of_choices = {name for value in schema.get("enum", []) for name in _json_type(value)} if not given else set()
    return {given} if isinstance(given, str) else set(given) | of_choices


def _json_type(value: Any) -> set[str]:
    if isinstance(value, bool):
        return {"boolean"}
    names = {str: {"string"}, int: {"integer", "number"}, float: {"number"}, list: {"array"}, dict: {"object"}}
    return names.get(type(value), {"null"})
