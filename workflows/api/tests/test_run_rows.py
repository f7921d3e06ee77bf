"""The rows of a list of runs: as their serializer describes them, and made with few queries."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries
from rest_framework.renderers import JSONRenderer

from accounts.models import User
from workflows.api import run_rows
from workflows.api.run_serializers import BatchedRunSerializer, ListedRunSerializer, RunSerializer
from workflows.api.tests.asking import V1, AsUser
from workflows.models import Airflow, Run, TriggerType, Workflow
from workflows.models.workflows import LARGE_OF_DAG
from workflows.states import RunState
from workflows.tests.stage import NOW, at, new_run

pytestmark = pytest.mark.django_db

FULL: dict[str, Any] = {
    "task_id": 7,
    "dataset_id": "größe",
    "note": "nightly",
    "parameters": {"rows": [1, {"deep": None}]},
    "run_at": at(1),
    "logical_date": NOW.replace(microsecond=120_000),
    "data_interval_start": at(2),
    "data_interval_end": at(3),
    "queued_at": at(4),
    "started_at": at(5),
    "ended_at": at(5) + timedelta(milliseconds=1500),
    "observed_at": at(6),
    "state_reason": "failed: password=hunter2",
    "attempt": 3,
}
CASES: list[dict[str, Any]] = [
    {},
    FULL,
    {"task_id": "7", "dataset_id": 0},
    {"data_interval_start": at(1)},
    {"started_at": at(9), "ended_at": at(7)},
    {"started_at": at(9)},
    {"observed_at": at(9000)},
    {"created_at": datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)},
    *({"trigger_type": kind} for kind in TriggerType),
    {"user": None, "trigger_type": TriggerType.EXTERNAL},
]


def described(run: Run) -> dict[str, Any]:
    """Return the run as the serializer of the description writes it."""
    found = Run.objects.with_work().select_related("workflow", "user").get(pk=run.pk)
    row: dict[str, Any] = json.loads(JSONRenderer().render(ListedRunSerializer(found).data))
    return row


@pytest.mark.parametrize("state", RunState)
@pytest.mark.parametrize("looked_at", [None, NOW, at(60)])
def test_a_row_is_what_the_serializer_writes(
    as_user: AsUser, ada: User, nightly: Workflow, state: RunState, looked_at: datetime | None
) -> None:
    Airflow.objects.update_or_create(pk=1, defaults={"looked_at": looked_at})
    runs = [new_run(nightly, state) for _ in CASES]
    for run, case in zip(runs, CASES, strict=True):
        Run.objects.filter(pk=run.pk).update(**case)

    rows = as_user(ada).get(f"{V1}/runs?include=parameters").json()["results"]

    row_of = {row["id"]: row for row in rows}
    for run in runs:
        assert list(row_of[str(run.pk)].items()) == list(described(run).items())


def test_a_row_shows_its_parameters_only_if_they_are_asked_for(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    run = new_run(nightly, parameters={"rows": 1})

    [row] = as_user(ada).get(f"{V1}/runs").json()["results"]

    assert row == {name: value for name, value in described(run).items() if name != "parameters"}


@pytest.mark.parametrize("serializer", [RunSerializer, BatchedRunSerializer])
@pytest.mark.parametrize("state", [RunState.PENDING, RunState.RUNNING, RunState.FAILED])
@pytest.mark.parametrize("case", CASES)
def test_a_new_run_is_answered_as_its_serializer_writes_it(
    nightly: Workflow, serializer: type[RunSerializer], state: RunState, case: dict[str, Any]
) -> None:
    Airflow.objects.update_or_create(pk=1, defaults={"looked_at": NOW})
    run = new_run(nightly, state, paused=True)
    Run.objects.filter(pk=run.pk).update(**case)
    found = Run.objects.with_work().select_related("workflow", "user").get(pk=run.pk)
    written = json.loads(JSONRenderer().render(serializer(found).data))

    shown = run_rows.shown_run(found, airflows=Airflow.by_name(), parameters="parameters" in written)

    assert list(json.loads(JSONRenderer().render(shown)).items()) == list(written.items())


@pytest.mark.parametrize("state", RunState)
@pytest.mark.parametrize("paused", [True, False])
@pytest.mark.parametrize("tasks", [[], ["success"], ["running"], ["queued", "running"], [""]])
def test_a_row_says_whether_the_run_is_paused_or_pausing(
    as_user: AsUser, ada: User, nightly: Workflow, state: RunState, paused: bool, tasks: list[str]
) -> None:
    run = new_run(nightly, state, paused=paused)
    for n, word in enumerate(tasks):
        run.tasks.create(task_id=f"t{n}", state=word)

    [row] = as_user(ada).get(f"{V1}/runs").json()["results"]

    fresh = Run.objects.get(pk=run.pk)
    assert (row["paused"], row["pausing"]) == (fresh.is_paused, fresh.is_pausing)


@pytest.mark.parametrize(("paused", "queries"), [(False, 3), (True, 4)])
def test_the_tasks_of_a_page_are_read_only_if_a_run_of_it_may_be_pausing(
    as_user: AsUser,
    root: User,
    nightly: Workflow,
    django_assert_num_queries: DjangoAssertNumQueries,
    paused: bool,
    queries: int,
) -> None:
    Airflow.default()
    for _ in range(3):
        new_run(nightly, RunState.RUNNING, paused=paused)
    client = as_user(root)

    with django_assert_num_queries(queries):  # the token, the page, Airflow's state, and the tasks of all paused runs
        client.get(f"{V1}/runs")


@pytest.mark.parametrize("path", ["dags", "workflows", "workflows?include=hindrance", "runs", "workflows/{id}/runs"])
def test_a_list_reads_no_large_field_of_a_dag(as_user: AsUser, ada: User, nightly: Workflow, path: str) -> None:
    new_run(nightly)
    client = as_user(ada)

    with CaptureQueriesContext(connection) as captured:
        answer = client.get(f"{V1}/{path.format(id=nightly.pk)}")

    said = " ".join(query["sql"] for query in captured)
    assert len(answer.json()["results"]) == 1
    assert [name for name in LARGE_OF_DAG if f'"workflows_dag"."{name}"' in said] == []
