"""Parameters of a run against the JSON schema of its DAG."""

from __future__ import annotations

from typing import Any

import pytest

from svops.errors import InvalidInputError
from workflows import parameters
from workflows.airflow.types import DagParam
from workflows.tests.stage import SCHEMA


def param(value: Any = None, description: str | None = None, **schema: Any) -> DagParam:
    return DagParam(value=value, schema=schema, description=description)


def refusal(given: dict[str, Any], defaults: dict[str, Any] | None = None) -> dict[str, list[str]]:
    with pytest.raises(InvalidInputError, match=r"^The parameters do not fit the DAG\.$") as refused:
        parameters.merge(given=given, defaults=defaults or {}, schema=SCHEMA)
    return refused.value.errors


def test_airflows_params_become_the_schema_of_one_object() -> None:
    schema = parameters.schema_of(
        {
            "rows": param(5, "How many", type="integer", minimum=1),
            "mode": param(None, type="string"),
            "table": param(None, type=["null", "string"]),
            "free": param(None),
            "off": param(False, type="boolean"),
        }
    )

    assert schema == {
        "type": "object",
        "properties": {
            "rows": {"type": "integer", "minimum": 1, "description": "How many", "default": 5},
            "mode": {"type": "string"},
            "table": {"type": ["null", "string"]},
            "free": {},
            "off": {"type": "boolean", "default": False},
        },
        "required": ["mode"],
    }


def test_what_is_given_wins_over_the_defaults() -> None:
    merged = parameters.merge(
        given={"rows": 7, "table": None}, defaults={"rows": 10, "mode": "slow", "table": "t"}, schema=SCHEMA
    )

    assert merged == {"rows": 7, "mode": "slow", "table": None}


def test_a_parameter_that_the_dag_does_not_declare_is_let_through_as_airflow_does() -> None:
    assert parameters.merge(given={"rows": 1, "more": [1]}, defaults={}, schema=SCHEMA) == {"rows": 1, "more": [1]}


def test_neither_the_given_nor_the_default_parameters_are_changed() -> None:
    given, defaults = {"rows": 1}, {"mode": "slow"}

    parameters.merge(given=given, defaults=defaults, schema=SCHEMA)

    assert (given, defaults) == ({"rows": 1}, {"mode": "slow"})


def test_each_wrong_parameter_is_named_with_its_reasons() -> None:
    assert refusal({"rows": "ten", "mode": "medium", "table": 3}) == {
        "parameters.rows": ["'ten' is not of type 'integer'"],
        "parameters.mode": ["'medium' is not one of ['fast', 'slow']"],
        "parameters.table": ["3 is not of type 'null', 'string'"],
    }


def test_a_missing_parameter_is_named_even_beside_a_wrong_one() -> None:
    assert refusal({"mode": "medium"}) == {
        "parameters.mode": ["'medium' is not one of ['fast', 'slow']"],
        "parameters.rows": ["This parameter is required."],
    }


def test_a_wrong_default_is_found_at_the_trigger_too() -> None:
    assert refusal({}, {"rows": 0}) == {"parameters.rows": ["0 is less than the minimum of 1"]}


def test_true_is_not_taken_for_one() -> None:
    assert refusal({"rows": True}) == {"parameters.rows": ["true is not of type 'integer'"]}


def test_a_value_is_told_as_json_has_it() -> None:
    schema = {"properties": {"level": {"enum": ["high", None]}, "rows": {"type": "integer"}}}

    with pytest.raises(InvalidInputError) as refused:
        parameters.merge(given={"level": "low", "rows": None}, defaults={}, schema=schema)

    assert refused.value.errors == {
        "parameters.level": ["'low' is not one of [\"high\", null]"],
        "parameters.rows": ["null is not of type 'integer'"],
    }


def test_what_is_wrong_inside_a_parameter_is_named_by_its_path() -> None:
    columns = {"type": "array", "items": {"type": "object", "required": ["name"], "properties": {"n": {"maximum": 3}}}}
    schema = {"type": "object", "properties": {"columns": columns}}

    with pytest.raises(InvalidInputError) as refused:
        parameters.merge(given={"columns": [{"name": "a", "n": 4}, {}]}, defaults={}, schema=schema)

    assert refused.value.errors == {
        "parameters.columns.0.n": ["4 is greater than the maximum of 3"],
        "parameters.columns.1.name": ["This parameter is required."],
    }


def test_several_missing_parameters_are_each_named_once() -> None:
    with pytest.raises(InvalidInputError) as refused:
        parameters.merge(given={}, defaults={}, schema={"type": "object", "required": ["a", "b"]})

    assert refused.value.errors == {
        "parameters.a": ["This parameter is required."],
        "parameters.b": ["This parameter is required."],
    }


def test_the_defaults_of_a_workflow_may_leave_out_what_is_required() -> None:
    parameters.check_defaults(defaults={}, schema=SCHEMA)
    parameters.check_defaults(defaults={"mode": "slow"}, schema=SCHEMA)


def test_the_defaults_of_a_workflow_have_to_fit() -> None:
    with pytest.raises(InvalidInputError, match=r"^The default parameters do not fit the DAG\.$") as refused:
        parameters.check_defaults(defaults={"rows": 2000}, schema=SCHEMA)

    assert refused.value.errors == {"default_parameters.rows": ["2000 is greater than the maximum of 1000"]}
