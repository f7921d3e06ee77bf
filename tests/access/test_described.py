"""Every GET of a filled site answers with exactly the fields that its OpenAPI description declares."""

from __future__ import annotations

import json
import re
from datetime import datetime
from enum import EnumType
from typing import Any, Literal, get_args, get_origin, get_type_hints, is_typeddict

import pytest
from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator, FormatChecker

from accounts import services
from notifications.models import Attempt, Outcome
from tests.access.table import ENDLESS, NOT_DESCRIBED, TABLE
from tests.access.world import World, client_of
from workflows.eventlog import events, publication
from workflows.models import Dag, RunAttempt, TaskInstance
from workflows.states import RunState
from workflows.tests.stage import NOW

READS = [key for key in TABLE if key[1] == "get" and key not in NOT_DESCRIBED and key not in ENDLESS]
EXAMPLES = {
    str: "text", int: 1, float: 1.5, bool: True, datetime: NOW, type(None): None,
    list[str]: ["text"], dict[str, Any]: {"name": "text"}, Any: {"rows": 3},
}  # fmt: skip


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    declared: dict[str, Any] = strict(SchemaGenerator().get_schema(request=None, public=True))  # type: ignore[no-untyped-call]
    return declared


def strict(schema: Any) -> Any:
    """The description as JSON Schema in which a field that is not declared is an error."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {name: strict(part) for name, part in schema.items()}
    if "properties" in parts:
        parts.setdefault("additionalProperties", False)
    return parts


@pytest.fixture
def filled(world: World, with_airflow: None) -> World:
    """The world, and in it whatever a list or a field can show."""
    world.give_to(world.users["admin"])
    Dag.objects.update(tags=["nightly"], owners=["ada"])
    TaskInstance.objects.create(run=world.run, task_id="extract", state="running", started_at=NOW)
    RunAttempt.objects.create(run=world.run, number=1, state=RunState.FAILED, failed_tasks=["extract"])
    Attempt.objects.create(delivery=world.delivery, number=1, outcome=Outcome.DELIVERED, started_at=NOW)
    for data in events.CATALOGUE.values():
        events.record(example_of(data), now=NOW, run=world.run)
    publication.publish()
    return world


def example_of(data: type[events.EventData]) -> events.EventData:
    hints = {name: hint for name, hint in get_type_hints(data).items() if name != "type"}
    return data(**{name: _value(hint) for name, hint in hints.items()})


def _value(hint: Any) -> Any:
    if hint in EXAMPLES:
        return EXAMPLES[hint]
    if is_typeddict(hint):
        return {name: _value(of_field) for name, of_field in get_type_hints(hint).items()}
    if isinstance(hint, EnumType):
        return next(iter(hint.__members__.values()))
    first = get_args(hint)[0]
    return first if get_origin(hint) is Literal else _value(first)


def schema_of(description: dict[str, Any], path: str) -> dict[str, Any] | None:
    """What the description says of the answer, or None if that is not JSON."""
    templates = [
        template for template in description["paths"] if re.fullmatch(re.sub("{.+?}", "[^/]+", template), path)
    ]
    operation = description["paths"][min(templates, key=lambda template: template.count("{"))]["get"]
    content = operation["responses"]["200"]["content"].get("application/json")
    return content and {"components": description["components"], **content["schema"]}


@pytest.mark.parametrize("key", READS, ids=str)
def test_an_answer_has_exactly_the_fields_that_are_described(
    filled: World, description: dict[str, Any], key: tuple[str, str]
) -> None:
    path = filled.path(TABLE[key].path)
    schema = schema_of(description, path)
    if schema is None:
        assert key == ("audit-export", "get")
        return

    answer = client_of(services.sign_in(user=filled.users["admin"]).access_token).get(path)

    # The run has not ended: who waits for it gets the same with another status.
    assert answer.status_code == (202 if key == ("workflow-run-wait", "get") else 200), answer.content
    body = answer.json()
    assert body if isinstance(body, list) else body.get("results", body), "nothing to compare"
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(body)


def test_every_type_of_event_is_described_with_its_own_data(filled: World, description: dict[str, Any]) -> None:
    token = services.sign_in(user=filled.users["admin"]).access_token

    answer = client_of(token).get("/api/v1/events?limit=1000")

    assert {event["type"] for event in answer.json()["results"]} == events.CATALOGUE.keys()
    wrong = {**answer.json()["results"][0], "data": {"state": "running"}}
    event = {"components": description["components"], "$ref": "#/components/schemas/Event"}
    assert not Draft202012Validator(event).is_valid(wrong)


def test_a_reference_is_an_integer_a_string_or_null(description: dict[str, Any]) -> None:
    run = description["components"]["schemas"]["Run"]["properties"]

    wrong: list[Any] = [7.5, [], True, ""]
    for name in ("task_id", "dataset_id", "caller_task_ref", "caller_dataset_ref"):
        reference = Draft202012Validator(run[name])
        assert all(reference.is_valid(good) for good in (7, "seven", None))
        assert not any(reference.is_valid(bad) for bad in wrong)


def answers(description: dict[str, Any]) -> dict[str, Any]:
    """The components of answers that are objects, by name; those of requests have a suffix."""
    schemas: dict[str, Any] = description["components"]["schemas"]
    asked = ("Request", "Message")
    return {name: part for name, part in schemas.items() if "properties" in part and not name.endswith(asked)}


def test_only_fields_that_users_define_have_no_declared_shape(description: dict[str, Any]) -> None:
    free = {
        field
        for answer in answers(description).values()
        for field, schema in answer["properties"].items()
        for kind in schema.get("oneOf", [schema])
        if "object" in kind.get("type", "") and not kind.get("properties") and not kind.get("additionalProperties")
    }

    assert free == {"parameters", "default_parameters", "params_schema", "params", "before", "after"}


def test_only_these_fields_can_be_missing_from_an_answer(description: dict[str, Any]) -> None:
    optional = {
        name: fields
        for name, answer in answers(description).items()
        if (fields := answer["properties"].keys() - set(answer.get("required", ())) - {"errors"})
    }

    assert optional == {
        "AirflowInUse": {"workflows", "runs"},
        "BatchResult": {"run", "error"},
        "ErrorFrame": {"retry_after"},
        "Filters": {"workflows", "tags", "states", "users", "duration_over_s", "only_on_change"},
        "ListedRun": {"parameters"},
        "ListedWorkflow": {"default_parameters", "hindrance"},
        "LogNotFound": {"map_indexes"},
        "NewNotificationConfig": {"new_secret"},
        "PaginatedListedRunList": {"partial"},
        "RecoveredFrame": {"reason"},
        "RunConflict": {"state", "paused", "run_id", "other_runs", "runs"},
        "Scheduled": {"status", "reason"},
        "SubscribedFrame": {"workflow_id", "run_id", "types"},
        "TooManyKeys": {"limit"},
        "TriggeredRun": {"ticket"},
        "UnsubscribedFrame": {"workflow_id", "run_id", "types"},
    }


def test_no_description_is_for_developers(description: dict[str, Any]) -> None:
    text = json.dumps(description)

    for word in ("Mixin", "Base of", "Serializer", "viewset"):
        assert word not in text
