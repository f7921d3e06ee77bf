"""What happens on the wire fits the descriptions of it: JSON Schema for events, AsyncAPI for the streams."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from jsonschema import Draft202012Validator, FormatChecker

from accounts.models import User
from workflows.api.tests.asking import V1, AsUser, runs_of
from workflows.eventlog import publication
from workflows.eventlog.events import CATALOGUE
from workflows.models import Run, Workflow
from workflows.routing import STREAMS
from workflows.tests.stage import StagedAirflow, task
from workflows.watch.tests.polls import polled

pytestmark = pytest.mark.django_db(transaction=True)


def document(path: str) -> dict[str, Any]:
    found: dict[str, Any] = Client().get(f"{V1}/{path}").json()
    return found


def test_the_schema_of_events_is_json_schema_and_complete() -> None:
    schema = document("events/schema")

    Draft202012Validator.check_schema(schema)
    kinds = {one["$ref"].removeprefix("#/$defs/") for one in schema["oneOf"]}
    assert kinds == {f"{data.__name__}Event" for data in CATALOGUE.values()}
    assert "#/components" not in json.dumps(schema)


def test_every_type_of_event_has_its_own_data() -> None:
    validator = Draft202012Validator(document("events/schema"), format_checker=FormatChecker())
    envelope = {
        "id": 7, "seq": 1, "workflow_id": 1, "run_id": "0b5e7a52-6f0e-4c53-9d0a-6a7f7a7d2f11", "task_id": None,
        "user_id": None, "timestamp": "2026-11-25T08:30:50.318634Z",
    }  # fmt: skip
    data = {"state": "running", "attempt": 1, "airflow": "default", "started_at": "2026-11-25T08:30:50Z"}

    started = {**envelope, "type": "workflow.started", "data": data}

    assert validator.is_valid(started)
    wrong: list[dict[str, Any]] = [
        {"type": "workflow.began"}, {"type": "workflow.failed"}, {"run_id": 7}, {"data": {**data, "state": "fine"}},
    ]  # fmt: skip
    for change in wrong:
        assert not validator.is_valid(started | change), change


def test_the_events_of_a_run_fit_the_schema(
    as_user: AsUser, airflow: StagedAirflow, ada: User, nightly: Workflow
) -> None:
    validator = Draft202012Validator(document("events/schema"), format_checker=FormatChecker())
    client = as_user(ada)
    client.post(runs_of(nightly), {"caller_task_ref": "order 7", "note": "for support"})
    run, later = Run.objects.get(), 10**9
    polled(run, later + 5, "running", task(run, "extract", "running", start=later + 2), start=later + 1)
    done = task(run, "extract", "success", start=later + 2, end=later + 10)
    polled(run, later + 12, "success", done, start=later + 1, end=later + 11)
    publication.publish()

    events = client.get(f"{V1}/events").json()["results"]

    told = ["workflow.triggered", "workflow.started", "task.started", "task.completed", "workflow.completed"]
    assert [event["type"] for event in events] == told
    for event in events:
        validator.validate(event)


def test_the_streams_have_the_addresses_of_the_routes_and_all_frames() -> None:
    described = document("asyncapi")

    assert described["asyncapi"] == "3.0.0"
    addresses = {channel["address"] for channel in described["channels"].values()}
    assert addresses == {f"/api/v1/{route.replace('<int:', '{').replace('>', '}')}" for route in STREAMS}
    sent = {part["$ref"].rpartition("/")[2] for part in described["operations"]["everything.sent"]["messages"]}
    assert sent >= {f"{data.__name__}Event" for data in CATALOGUE.values()}
    for operation in described["operations"].values():
        for part in [operation["channel"], *operation["messages"]]:
            assert found(described, part["$ref"])
    for schema in described["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def found(described: dict[str, Any], reference: str) -> Any:
    part: Any = described
    for name in reference.removeprefix("#/").split("/"):
        part = part[name]
    return found(described, part["$ref"]) if "$ref" in part else part


@pytest.mark.parametrize("path", ["events/schema", "asyncapi"])
def test_who_has_a_description_gets_304(path: str) -> None:
    first = Client().get(f"{V1}/{path}")

    again = Client().get(f"{V1}/{path}", headers={"if-none-match": first["ETag"]})

    assert (again.status_code, again.content) == (304, b"")
