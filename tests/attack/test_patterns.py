"""Neither the author of a DAG nor a caller can keep a process busy with a schema, a pattern or a value."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests

from rest.errors import InvalidInputError
from tests.attack.target import PATIENCE, Target
from tests.live.conftest import new_user, new_workflow, token_of
from workflows import parameters
from workflows.airflow.types import DagParam
from workflows.models import Dag

MOST_CPU = 10.0  # seconds; each attack took minutes, or did not end
KB_60 = 60_000


def check(schema: dict[str, Any], value: Any) -> list[str]:
    """Return the refusals of a value."""
    try:
        parameters.merge(given={"p": value}, defaults={}, schema={"properties": {"p": schema}})
    except InvalidInputError as exc:
        return [message for messages in exc.errors.values() for message in messages]
    return []


def doubled(times: int) -> dict[str, Any]:
    """Return a schema of a few lines that checks its value 2 ** times times."""
    steps = {f"s{n}": {"allOf": [{"$ref": f"#/$defs/s{n + 1}"}] * 2} for n in range(times)}
    return {"$ref": "#/$defs/s0", "$defs": steps | {f"s{times}": {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": "^(a+)+$|x"}, "a" * 29 + "!"),
        ({"pattern": "^(a|aa)+$"}, "a" * KB_60 + "!"),
        ({"pattern": "^(\\w+\\s?)*$"}, "word " * 12_000 + "!"),
        ({"pattern": "(x{0,100}){0,9}y"}, "x" * KB_60),
        ({"type": "object", "patternProperties": {"^(a+)+$": {}}}, {"a" * 40 + "!": 1}),
        ({"type": "object", "patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}, {"a" * 40 + "!": 1}),
        ({"type": "object", "patternProperties": {"^(a+)+$": {}}, "unevaluatedProperties": False}, {"a" * 40 + "!": 1}),
        ({"propertyNames": {"pattern": "^(a+)+$"}}, {"a" * 40 + "!": 1}),
        # A part of a schema that names a draft is checked by the library's own class for it.
        ({"allOf": [{"$schema": "http://json-schema.org/draft-07/schema#", "pattern": "^(a+)+$"}]}, "a" * 40 + "!"),
        ({"uniqueItems": True}, [{"a": number} for number in range(8_000)]),
        (doubled(30), "text"),
        ({"items": {"enum": list(range(10_000))}}, list(range(10_000, 20_000))),
        ({"format": "regex"}, "(?i)" + "[\x00-\uffff]" * 800),
        ({"format": "regex"}, "(" * KB_60),
        ({"format": "duration"}, "P1" * (KB_60 // 2)),
        ({"format": "idn-hostname"}, "ä" * KB_60),
        ({"multipleOf": 1e-300}, 10**4_000),
    ],
    ids=lambda part: str(part)[:50],
)
def test_a_check_ends_whatever_the_schema_and_the_value(schema: dict[str, Any], value: Any) -> None:
    """Before: minutes for the patterns and the regex, 32 million comparisons for items, no end for references."""
    began = time.process_time()

    check(schema, value)

    assert time.process_time() - began < MOST_CPU


def test_a_pattern_that_is_not_run_does_not_refuse(db: None) -> None:
    """What cannot be checked in linear time is left to Airflow, and the DAG says so."""
    ahead = "^(?!forbidden)"

    assert check({"type": "string", "pattern": ahead}, "forbidden") == []
    assert check({"type": "string", "pattern": ahead}, 7) == ["7 is not of type 'string'"]
    assert check({"not": {"pattern": ahead}}, "forbidden") == []
    assert parameters.unchecked_in({"properties": {"p": {"pattern": ahead}, "q": {"pattern": "a"}}}) == [
        f"p: the pattern cannot be searched for in linear time, so SVOps checks all but this: {ahead}"
    ]


def test_a_schema_without_end_makes_its_dag_unusable() -> None:
    with pytest.raises(parameters.UnusableSchemaError, match="too much work"):
        parameters.schema_of({"p": DagParam(value=None, schema=doubled(30), description=None)})


def test_others_are_answered_while_somebody_validates(web: Target) -> None:
    """Before: 29 characters froze every request of the web process for minutes."""
    ada = new_user()
    workflow = new_workflow(ada)
    schema = {"properties": {"p": {"type": "string", "pattern": "^(a+)+$|x"}}, "required": []}
    Dag.objects.filter(pk=workflow.dag_id).update(params_schema=schema)
    url = f"{web.url}/api/v1/workflows/{workflow.pk}/runs/validate"
    headers = {"Authorization": f"Bearer {token_of(ada)}"}

    with web.measured() as cost:
        answer = requests.post(url, json={"parameters": {"p": "a" * 29 + "!"}}, headers=headers, timeout=PATIENCE)

    assert answer.status_code == 400
    assert answer.json()["errors"] == {"parameters.p": [f"'{'a' * 29}!' does not match '^(a+)+$|x'"]}
    assert cost.cpu_s < MOST_CPU
    assert requests.get(f"{web.url}/healthz", timeout=PATIENCE).ok
