"""Airflow's pushes: who may push, and which batches are refused."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from tests.live.parts import Web, until
from tests.live.pushes import (
    NOON,
    SECRET,
    events_of,
    everything,
    post,
    push,
    pushed_run,
    pushed_task,
    signed,
)
from workflows.airflow.tests.scripted import ScriptedAirflow
from workflows.models import Run
from workflows.states import RunState


def test_a_signed_push_moves_the_run_and_records_its_events(web: Web, airflow: ScriptedAirflow, run: Run) -> None:
    push(web, pushed_run(run, "running"), pushed_task(run, "extract", "running", start=2))
    push(web, pushed_task(run, "extract", "success", start=2, end=3))

    assert events_of(run) == [("workflow.started", ""), ("task.started", "extract"), ("task.completed", "extract")]
    run.refresh_from_db()
    assert (run.state, run.started_at) == (RunState.RUNNING, NOON + timedelta(seconds=1))


BODY = b'{"records": []}'


UNSIGNED: list[Callable[[bytes], dict[str, str]]] = [
    lambda _: {},
    lambda body: signed(body, secret="another secret"),
    lambda body: signed(body, sent_at=time.time() - 301),
    lambda body: signed(body, sent_at=time.time() + 303),
    lambda body: signed(body + b" "),
    lambda body: signed(body) | {"X-SVOps-Timestamp": str(int(time.time()) - 2)},
    lambda body: signed(body) | {"X-SVOps-Timestamp": "now"},
    lambda body: signed(body) | {"X-SVOps-Signature": "é" * 64},
]


@pytest.mark.parametrize("headers", UNSIGNED)
def test_a_push_with_a_wrong_signature_is_refused_and_changes_nothing(
    web: Web, run: Run, headers: Callable[[bytes], dict[str, str]]
) -> None:
    before = everything()
    body = json.dumps({"records": [pushed_run(run, "running")]}).encode()

    answer = post(web, body, {name: value.encode() for name, value in headers(body).items()})  # type: ignore[misc]

    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_signature")
    assert everything() == before


def test_without_a_secret_every_push_is_refused(settings: Settings, run: Run) -> None:
    settings.INGEST_SECRET = ""
    headers = signed(BODY, secret="")

    answer = Client().post("/api/v1/ingest", BODY, content_type="application/json", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_signature")


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{}", b'{"records": {}}', b"\xff", b'{"records": 7}', b"{"])
def test_a_body_that_is_not_a_batch_is_refused(web: Web, body: bytes) -> None:
    answer = post(web, body, signed(body))

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert list(answer.json()["errors"]) == ["records"]


MALFORMED: list[Any] = [
    7,
    None,
    {},
    {"kind": "cat"},
    {"state": None},
    {"state": "x" * 40},
    {"start_date": "yesterday"},
    {"start_date": "2026-11-25T08:00:00"},
    {"start_date": 5},
    {"dag_id": "a\x00b"},
    {"dag_id": 7},
    {"try_number": "many"},
    {"try_number": -1},
    {"try_number": 2**40},
    {"map_index": None},
    {"task_id": "x" * 300},
]


@pytest.mark.parametrize("wrong", MALFORMED, ids=lambda wrong: json.dumps(wrong)[:40])
def test_a_batch_with_a_malformed_record_is_refused_with_its_place_and_changes_nothing(
    web: Web, airflow: ScriptedAirflow, run: Run, wrong: Any
) -> None:
    before = everything()
    whole = pushed_task(run, "extract", "running", start=2)
    record = whole | wrong if isinstance(wrong, dict) and wrong else wrong
    body = json.dumps({"records": [pushed_run(run, "running"), record]}).encode()

    answer = post(web, body, signed(body))

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert list(answer.json()["errors"]) == ["records.1"]
    assert everything() == before


def test_a_batch_with_too_many_records_is_refused(web: Web, run: Run) -> None:
    before = everything()
    body = json.dumps({"records": [pushed_run(run, "running")] * 1001}).encode()

    answer = post(web, body, signed(body))

    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["records"])
    assert everything() == before


def test_the_number_of_records_that_the_plugin_dropped_is_logged(web: Web) -> None:
    body = json.dumps({"records": [], "dropped": 31337}).encode()

    assert post(web, body, signed(body)).status_code == 202

    until(lambda: _logged_drops(web) == [31337], within=5, or_say=lambda: web.log)


def _logged_drops(web: Web) -> list[int]:
    logged = [json.loads(line) for line in web.log.splitlines() if line.startswith("{")]
    return [line["dropped"] for line in logged if line["message"] == "the listener dropped records"]


def test_signed_pushes_are_never_too_many_also_beside_forged_ones_of_the_same_address(
    settings: Settings, db: None
) -> None:
    settings.INGEST_SECRET = SECRET
    settings.RATE_LIMIT_INGEST = "2/hour"
    forged = [Client().post("/api/v1/ingest", BODY, content_type="application/json") for _ in range(3)]

    taken = [
        Client().post("/api/v1/ingest", BODY, content_type="application/json", headers=signed(BODY)) for _ in range(9)
    ]

    assert [answer.status_code for answer in forged] == [401, 401, 429]
    assert {answer.status_code for answer in taken} == {202}
