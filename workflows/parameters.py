"""Parameters of a run against the JSON schema of its DAG, before Airflow is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from svops.errors import InvalidInputError


def schema_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of an object from Airflow's `params` (name to value, schema, description).

    A param whose default is null and whose schema does not allow null has to be given: Airflow shows "no
    default" and "default null" alike.
    """
    properties = {
        name: param.schema
        | ({"description": param.description} if param.description else {})
        | ({"default": param.value} if param.value is not None else {})
        for name, param in params.items()
    }
    required = [name for name, param in params.items() if param.value is None and not _allows_null(param.schema)]
    return {"type": "object", "properties": properties, "required": sorted(required)}


def _allows_null(schema: Mapping[str, Any]) -> bool:
    return Draft202012Validator(dict(schema)).is_valid(None)


def merge(*, given: Mapping[str, Any], defaults: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """`given` over `defaults`, checked against `schema`.

    Raises `InvalidInputError` with a message per parameter, under `parameters.<name>`.
    """
    merged = dict(defaults) | dict(given)
    errors: dict[str, list[str]] = {}
    for error in Draft202012Validator(dict(schema), format_checker=Draft202012Validator.FORMAT_CHECKER).iter_errors(
        merged
    ):
        for field, message in _messages(error):
            # The library tells of each missing parameter once per missing parameter.
            if message not in errors.setdefault(field, []):
                errors[field].append(message)
    if errors:
        raise InvalidInputError(errors, detail="The parameters do not fit the DAG.")
    return merged


def check_defaults(*, defaults: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Check a workflow's defaults: each that is given has to fit, none has to be given.

    Raises `InvalidInputError` with a message per parameter, under `default_parameters.<name>`.
    """
    try:
        merge(given=defaults, defaults={}, schema={**schema, "required": []})
    except InvalidInputError as exc:
        renamed = {f"default_{field}": messages for field, messages in exc.errors.items()}
        raise InvalidInputError(renamed, detail="The default parameters do not fit the DAG.") from exc


def _messages(error: ValidationError) -> Iterator[tuple[str, str]]:
    path = ".".join(["parameters", *(str(part) for part in error.absolute_path)])
    if error.validator == "required" and isinstance(error.validator_value, list):
        given = error.instance if isinstance(error.instance, dict) else {}
        missing = (name for name in error.validator_value if name not in given)
        yield from ((f"{path}.{name}", "This parameter is required.") for name in missing)
        return
    yield path, _in_json(error)


def _in_json(error: ValidationError) -> str:
    """The library's sentence, which begins with the value as Python writes it."""
    written = repr(error.instance)
    if not error.message.startswith(written):
        return error.message
    value = written if isinstance(error.instance, str) else json.dumps(error.instance, ensure_ascii=False, default=str)
    choices: Any = error.validator_value
    if error.validator == "enum" and not all(isinstance(one, str) for one in choices):
        return f"{value} is not one of {json.dumps(choices, ensure_ascii=False)}"
    return value + error.message.removeprefix(written)
