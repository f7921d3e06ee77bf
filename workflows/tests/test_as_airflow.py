"""Parameters are accepted and refused as Airflow's own `Param` does, for a few thousand schemas and values."""

from __future__ import annotations

import json
import random
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from rest.errors import InvalidInputError
from runner.versions import is_airflow_2
from workflows import parameters
from workflows.airflow.types import DagParam

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.skipif(is_airflow_2(), reason="2.11 knows other formats than Airflow 3"),
]

GUEST = Path(__file__).with_name("airflow_params.py")
PYTHON = GUEST.parents[2] / ".venv-airflow" / "bin" / "python"

TYPES = ["string", "integer", "number", "boolean", "null", "array", "object"]
FORMATS = [
    "date", "date-time", "time", "email", "uri", "uuid", "ipv4", "ipv6", "regex", "hostname", "multiline",
    # Airflow's environment has isoduration, which checks this one.
    *(["duration"] if find_spec("isoduration") else []),
]  # fmt: skip
PATTERNS = ["^[a-z]+$", "a|b", "^\\d{2}:\\d{2}", "", "\\S"]
STRINGS = [
    "", "a", "abc", "five minutes", "25:00", "12:30:00", "24:00:00", "12:30", "12:30:00Z", "2026-02-30", "2026-02-28",
    "2026-02-28T12:00:00Z", "2026-02-28 12:00", "PT5M", "P1D", "P1", "a@b", "not mail", "http://x/y", "::1", "1.2.3.4",
    "1.2.3", "6f3e8a1c-0b1d-4b57-9d53-2c1f1b6a7e10", "(", "[a-z]", "ä", "\u0000",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 3, 10**20, 0.0, 1.0, 0.5, -2.5, 1e300, [], [1], ["a", "a"], [1, True], {}, {"a": 1},
    {"a": "x", "b": None}, *STRINGS, *STRINGS,
]  # fmt: skip
# What an author can mistype.
MISTYPED: list[dict[str, Any]] = [
    {"type": "str"}, {"type": ["string", "strange"]}, {"minimum": "1"}, {"pattern": "("}, {"enum": "a"},
    {"required": True}, {"items": [1]}, {"multipleOf": 0}, {"maxLength": -1}, {"$ref": "#/nowhere"}, {"$ref": "#"},
    {"properties": {"a": {"type": "int"}}}, {"patternProperties": {"(": {}}}, {"$schema": ["x"]}, {"format": 5},
]  # fmt: skip


def any_schema(dice: random.Random, depth: int = 0) -> dict[str, Any]:
    """Return a schema of a few random keywords. One of forty is mistyped."""
    if dice.random() < 1 / 40:
        return dice.choice(MISTYPED)

    def inner() -> dict[str, Any]:
        return any_schema(dice, depth + 1) if depth < 2 else {}

    keywords: list[dict[str, Any]] = [
        {"type": dice.choice(TYPES)},
        {"type": dice.sample(TYPES, 2)},
        {"type": ["null", "string"], "format": dice.choice(FORMATS)},
        {"format": dice.choice(FORMATS)},
        {"enum": dice.sample(VALUES, 3)},
        {"const": dice.choice(VALUES)},
        {"minimum": dice.choice([0, 1, 0.5])},
        {"exclusiveMaximum": dice.choice([1, 3])},
        {"multipleOf": dice.choice([1, 0.5, 3])},
        {"minLength": 1, "maxLength": dice.choice([1, 5])},
        {"pattern": dice.choice(PATTERNS)},
        {"items": inner(), "uniqueItems": dice.random() < 0.5},
        {"properties": {"a": inner()}, "required": dice.choice([[], ["a"], ["b"]])},
        {"additionalProperties": False},
        {"anyOf": [inner(), inner()]},
        {"not": inner()},
        {"$ref": "#/$defs/x", "$defs": {"x": inner()}},
        {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": True},
        {"$schema": "http://json-schema.org/draft-07/schema#"},
    ]
    schema: dict[str, Any] = {}
    for keyword in dice.sample(keywords, dice.choice([1, 1, 2, 3])):
        schema |= keyword
    return schema


def ours(schema: dict[str, Any], value: Any) -> str:
    try:
        whole = parameters.schema_of({"p": DagParam(value=None, schema=schema, description=None)})
        parameters.merge(given={"p": value}, defaults={}, schema=whole)
    except parameters.UnusableSchemaError:
        return "unusable"
    except InvalidInputError as exc:
        [*messages] = (message for messages in exc.errors.values() for message in messages)
        return "unusable" if any("cannot be used" in message for message in messages) else "refused"
    return "ok"


def airflows(cases: list[tuple[dict[str, Any], Any]]) -> list[str]:
    done = subprocess.run(
        [PYTHON, GUEST], input=json.dumps(cases), capture_output=True, text=True, check=True, timeout=240
    )
    verdicts: list[str] = json.loads(done.stdout.splitlines()[-1])
    return verdicts


def differences(cases: list[tuple[dict[str, Any], Any]]) -> list[str]:
    rows = [(*case, theirs, ours(*case)) for case, theirs in zip(cases, airflows(cases), strict=True)]
    return [
        f"{json.dumps(schema)} {value!r}: Airflow says {theirs}, we {mine}"
        for schema, value, theirs, mine in rows
        if theirs != mine and not is_intended(schema, mine)
    ]


def is_intended(schema: dict[str, Any], mine: str) -> bool:
    """A reference without end, or to nothing, makes its DAG unusable, though Airflow can check some value."""
    text = json.dumps(schema)
    leads_nowhere = '"$ref": "#/$defs/x"' in text and "$defs" not in schema
    return mine == "unusable" and ('{"$ref": "#"}' in text or leads_nowhere)


def test_random_schemas_and_values_have_airflows_verdict() -> None:
    dice = random.Random(20261128)  # noqa: S311
    cases = [(schema, dice.choice(VALUES)) for schema in (any_schema(dice) for _ in range(4000))]

    assert differences(cases) == []


def test_every_format_has_airflows_verdict_for_every_text() -> None:
    assert differences([({"type": "string", "format": name}, text) for name in FORMATS for text in STRINGS]) == []
