"""Check the parameters of a run against the JSON schema of its DAG, before Airflow sees them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings
from jsonschema.exceptions import SchemaError, UnknownType, ValidationError
from referencing.exceptions import Unresolvable

from rest.errors import InvalidInputError
from workflows.parameters import checking

CONF_KEY = "svops"  # What SVOps itself puts into the conf of a run. No parameter may have this name.

# What the library raises where a schema is wrong in a place that its own check does not read.
_UNCHECKABLE = (
    UnknownType, Unresolvable, RecursionError, re.error, TypeError, ValueError, AttributeError, LookupError,
    ArithmeticError,
)  # fmt: skip
_SAMPLES: tuple[Any, ...] = (None, True, 0, 0.5, "", [], {})


class UnusableSchemaError(ValueError):
    """A DAG declares parameters that cannot be checked. The message says which and why."""


def schema_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of an object from Airflow's `params` (name to value, schema, description).

    A param is required when its default is null and its schema does not allow null: Airflow shows "no default" and
    "default null" alike. Raises `UnusableSchemaError`: a DAG author can write anything.
    """
    for name, param in params.items():
        _require_usable(name, param)
    properties = {
        name: dict(param.schema)
        | ({"description": param.description} if param.description else {})
        | ({"default": param.value} if param.value is not None else {})
        for name, param in params.items()
    }
    required = [name for name, param in params.items() if param.value is None and not _allows_null(param.schema)]
    return {"type": "object", "properties": properties, "required": sorted(required)}


def declared_in(schema: Mapping[str, Any]) -> set[str]:
    """Return the names of the parameters that a DAG declares."""
    return set(schema.get("properties", {}))


def unchecked_in(schema: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each parameter that SVOps cannot check in full. Airflow does, when it starts the run."""
    notes = []
    for name, declared in schema.get("properties", {}).items():
        if found := checking.unsearchable(declared):
            what = "nothing" if checking.is_left_to_airflow(declared) else "all but this"
            listed = ", ".join(found)
            notes.append(f"{name}: the pattern cannot be searched for in linear time, so SVOps checks {what}: {listed}")
    return notes


def _require_usable(name: str, param: Any) -> None:
    if name == CONF_KEY:
        raise UnusableSchemaError(f"The DAG declares a parameter {CONF_KEY!r}. SVOps uses this name itself.")
    if not isinstance(param.schema.get("$schema", ""), str):
        raise UnusableSchemaError(f"The parameter {name!r} has no valid JSON schema: its $schema is not a string.")
    try:
        checking.check_schema(param.schema)
    except RecursionError as exc:
        raise UnusableSchemaError(f"The schema of the parameter {name!r} is nested too deeply.") from exc
    except SchemaError as exc:
        place = ".".join(str(part) for part in exc.absolute_path)
        where = f" (at {place})" if place else ""
        raise UnusableSchemaError(f"The parameter {name!r} has no valid JSON schema: {exc.message}{where}.") from exc
    hindrances = []
    for sample in _SAMPLES:
        try:
            hindrances.append(_hindrance(param.schema, sample))
        except checking.TooCostlyError as exc:
            # Too much for a value of one character is too much for every value.
            raise UnusableSchemaError(f"The schema of the parameter {name!r} cannot be used: {exc}.") from exc
    if all(hindrances):
        raise UnusableSchemaError(f"The schema of the parameter {name!r} cannot be used: {hindrances[0]}.")


def _hindrance(schema: Mapping[str, Any], value: Any) -> str:
    """Return why a value cannot even be checked, or "" if it can."""
    try:
        checking.errors(schema, value)
    except checking.TooCostlyError:
        raise
    except _UNCHECKABLE as exc:
        return str(exc) or type(exc).__name__
    return ""


def _allows_null(schema: Mapping[str, Any]) -> bool:
    return not _hindrance(schema, None) and not checking.errors(schema, None)


def merge(
    *,
    given: Mapping[str, Any],
    defaults: Mapping[str, Any],
    schema: Mapping[str, Any],
    references: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return `given` over `defaults`, checked against `schema`. The `references` must not have a parameter's name.

    Raises `InvalidInputError` with a message per parameter, under `parameters.<name>`.
    """
    merged = dict(defaults) | dict(given)
    if (size := _size(merged)) > settings.PARAMETERS_MAX_BYTES:
        expected = f"Expected at most {settings.PARAMETERS_MAX_BYTES} bytes as JSON, with the workflow's defaults"
        raise InvalidInputError({"parameters": [f"{expected}; they have {size}."]}, detail="Too many parameters.")
    errors: dict[str, list[str]] = {}
    for field, message in (*_faults(merged, schema), *_clashes(merged, schema, references or {})):
        # With several missing parameters inside an object, the library reports each of them several times.
        if message not in errors.setdefault(field, []):
            errors[field].append(message)
    if errors:
        raise InvalidInputError(errors, detail="The parameters do not fit the DAG.")
    return merged


def _size(merged: Mapping[str, Any]) -> int:
    return len(json.dumps(merged, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"))


def check_defaults(*, defaults: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Check a workflow's defaults: each must fit the schema, and none is required.

    Raises `InvalidInputError` with a message per parameter, under `default_parameters.<name>`.
    """
    properties = {name: declared for name, declared in schema.get("properties", {}).items() if name in defaults}
    try:
        merge(given=defaults, defaults={}, schema={"properties": properties})
    except InvalidInputError as exc:
        renamed = {f"default_{field}": messages for field, messages in exc.errors.items()}
        raise InvalidInputError(renamed, detail="The default parameters do not fit the DAG.") from exc


def _faults(merged: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, declared in schema.get("properties", {}).items():
        if name not in merged and "default" not in declared:
            continue
        path = f"parameters.{name}"
        # Airflow checks the DAG's own defaults only now too, and refuses the run if one does not fit.
        value = merged[name] if name in merged else declared["default"]
        try:
            for error in checking.errors(declared, value):
                yield from _messages(error, path)
        except _UNCHECKABLE as exc:
            yield path, f"The DAG's schema of this parameter cannot be used: {exc}."
    missing = (name for name in schema.get("required", []) if name not in merged)
    yield from ((f"parameters.{name}", "This parameter is required.") for name in missing)


def _clashes(
    merged: Mapping[str, Any], schema: Mapping[str, Any], references: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    if CONF_KEY in merged:
        yield f"parameters.{CONF_KEY}", "SVOps uses this name itself: choose another one."
    for name in sorted(name for name, value in references.items() if value is not None):
        if name in merged or name in declared_in(schema):
            yield name, f"The reference {name} clashes with parameters.{name}: leave out the reference."
            yield f"parameters.{name}", f"This parameter clashes with the reference {name}: leave out the reference."


def _messages(error: ValidationError, parameter: str) -> Iterator[tuple[str, str]]:
    path = ".".join([parameter, *(str(part) for part in error.absolute_path)])
    if error.validator == "required" and isinstance(error.validator_value, list):
        given = error.instance if isinstance(error.instance, dict) else {}
        missing = (name for name in error.validator_value if name not in given)
        yield from ((f"{path}.{name}", "This parameter is required.") for name in missing)
        return
    yield path, _in_json(error)


def _in_json(error: ValidationError) -> str:
    """Return the library's sentence with its value as JSON: the library writes it as Python does."""
    written = repr(error.instance)
    if not error.message.startswith(written):
        return error.message
    value = written if isinstance(error.instance, str) else json.dumps(error.instance, ensure_ascii=False, default=str)
    choices: Any = error.validator_value
    if error.validator == "enum" and not all(isinstance(one, str) for one in choices):
        return f"{value} is not one of {json.dumps(choices, ensure_ascii=False)}"
    return value + error.message.removeprefix(written)
