"""Parameters of a run against the JSON schema of its DAG."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from rest.errors import InvalidInputError
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


def test_given_parameters_replace_the_defaults() -> None:
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


def test_a_value_is_shown_as_json() -> None:
    schema = {"properties": {"level": {"enum": ["high", None]}, "rows": {"type": "integer"}}}

    with pytest.raises(InvalidInputError) as refused:
        parameters.merge(given={"level": "low", "rows": None}, defaults={}, schema=schema)

    assert refused.value.errors == {
        "parameters.level": ["'low' is not one of [\"high\", null]"],
        "parameters.rows": ["null is not of type 'integer'"],
    }


def test_an_error_inside_a_parameter_is_named_by_its_path() -> None:
    columns = {"type": "array", "items": {"type": "object", "required": ["name"], "properties": {"n": {"maximum": 3}}}}
    schema = {"type": "object", "properties": {"columns": columns}}

    with pytest.raises(InvalidInputError) as refused:
        parameters.merge(given={"columns": [{"name": "a", "n": 4}, {}]}, defaults={}, schema=schema)

    assert refused.value.errors == {
        "parameters.columns.0.n": ["4 is greater than the maximum of 3"],
        "parameters.columns.1.name": ["This parameter is required."],
    }


def test_a_parameter_is_checked_by_its_own_draft_and_definitions_as_airflow_does() -> None:
    draft_4: dict[str, Any] = {"$schema": "http://json-schema.org/draft-04/schema#"}
    draft_4 |= {"minimum": 1, "exclusiveMinimum": True}
    own: dict[str, Any] = {"$ref": "#/$defs/level", "$defs": {"level": {"enum": ["high", "low"]}}}
    schema = parameters.schema_of({"a": param(5, **draft_4), "b": param("low", **own)})

    with pytest.raises(InvalidInputError) as refused:
        parameters.merge(given={"a": 1, "b": "x"}, defaults={}, schema=schema)

    assert refused.value.errors == {
        "parameters.a": ["1 is less than or equal to the minimum of 1"],
        "parameters.b": ["'x' is not one of ['high', 'low']"],
    }


@pytest.mark.parametrize("schema", [{"type": "str"}, {"pattern": "("}, {"$ref": "http://127.0.0.1:9/x"}, {"$ref": "#"}])
def test_a_stored_schema_that_cannot_be_used_refuses_its_parameter_alone(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as refused:
        parameters.merge(given={"a": "x", "b": 1}, defaults={}, schema={"properties": {"a": schema, "b": {}}})

    [(field, [message])] = refused.value.errors.items()
    assert field == "parameters.a"
    assert message.startswith("The DAG's schema of this parameter cannot be used: ")


def test_several_missing_parameters_are_each_named_once() -> None:
    with pytest.raises(InvalidInputError) as refused:
        parameters.merge(given={}, defaults={}, schema={"type": "object", "required": ["a", "b"]})

    assert refused.value.errors == {
        "parameters.a": ["This parameter is required."],
        "parameters.b": ["This parameter is required."],
    }


def test_a_default_of_the_dag_that_does_not_fit_has_to_be_replaced() -> None:
    schema = parameters.schema_of({"rows": param(0, type="integer", minimum=1)})

    with pytest.raises(InvalidInputError) as refused:
        parameters.merge(given={}, defaults={}, schema=schema)

    assert refused.value.errors == {"parameters.rows": ["0 is less than the minimum of 1"]}
    assert parameters.merge(given={"rows": 1}, defaults={}, schema=schema) == {"rows": 1}
    parameters.check_defaults(defaults={}, schema=schema)


@pytest.mark.parametrize("time", ["25:00", "five minutes", "12:30:00Z"])
def test_a_time_is_checked_as_airflow_does(time: str) -> None:
    schema = parameters.schema_of({"at": param(None, type=["null", "string"], format="time")})

    with pytest.raises(InvalidInputError) as refused:
        parameters.merge(given={"at": time}, defaults={}, schema=schema)

    assert refused.value.errors == {"parameters.at": [f"{time!r} is not a 'time'"]}
    assert parameters.merge(given={"at": "12:30:00"}, defaults={}, schema=schema) == {"at": "12:30:00"}


def test_a_schema_that_is_wrong_where_its_check_does_not_read_refuses_the_value() -> None:
    hidden: dict[str, Any] = {"$schema": "http://json-schema.org/draft-07/schema#", "$defs": {"x": {"minimum": "1"}}}
    schema = parameters.schema_of({"a": param("x", **hidden, **{"$ref": "#/$defs/x"})})

    with pytest.raises(InvalidInputError) as refused:
        parameters.merge(given={"a": 3}, defaults={}, schema=schema)

    [message] = refused.value.errors["parameters.a"]
    assert message.startswith("The DAG's schema of this parameter cannot be used: ")


@pytest.fixture
def no_garbage() -> Iterator[None]:
    """What earlier tests have left is not collected in this one."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# A warning about a connection that another test has left cannot be shown where the stack ends.
@pytest.mark.usefixtures("no_garbage")
@pytest.mark.parametrize("schema", [{"not": {"$ref": "#"}}, {"allOf": [{"$ref": "#"}]}, {"$ref": "#"}], ids=str)
def test_a_schema_that_refers_to_itself_ends_in_a_refusal_wherever_the_stack_ends(schema: dict[str, Any]) -> None:
    def at_depth(depth: int) -> dict[str, Any]:
        if depth:
            return at_depth(depth - 1)
        return parameters.merge(given={"a": "x"}, defaults={}, schema={"properties": {"a": schema}})

    # At some depths, the stack ends inside the library's Rust part, which panics.
    for depth in range(40):
        with pytest.raises(InvalidInputError):
            at_depth(depth)


def test_a_schema_that_is_nested_too_deeply_cannot_be_used() -> None:
    schema: dict[str, Any] = {}
    for _ in range(400):
        schema = {"items": schema}

    with pytest.raises(parameters.UnusableSchemaError, match=r"^The schema of the parameter 'a' is nested too deeply"):
        parameters.schema_of({"a": param(None, **schema)})


def test_the_defaults_of_a_workflow_may_leave_out_what_is_required() -> None:
    parameters.check_defaults(defaults={}, schema=SCHEMA)
    parameters.check_defaults(defaults={"mode": "slow"}, schema=SCHEMA)


def test_the_defaults_of_a_workflow_have_to_fit() -> None:
    with pytest.raises(InvalidInputError, match=r"^The default parameters do not fit the DAG\.$") as refused:
        parameters.check_defaults(defaults={"rows": 2000}, schema=SCHEMA)

    assert refused.value.errors == {"default_parameters.rows": ["2000 is greater than the maximum of 1000"]}
