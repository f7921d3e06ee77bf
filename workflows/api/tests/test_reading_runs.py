"""Runs, their tasks and their events over the REST API."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from workflows.api.tests.asking import V1, AsUser, path_of, refused, runs_of
from workflows.models import Airflow, Event, Run, Workflow
from workflows.states import RunState
from workflows.tests.stage import NOW, at, new_run

pytestmark = pytest.mark.django_db


def test_a_run_shows_when_it_was_observed_and_whether_it_is_stale(
    as_user: AsUser, ada: User, nightly: Workflow, settings: Settings
) -> None:
    settings.STALE_AFTER = 20
    now = timezone.now()
    run = new_run(nightly, RunState.RUNNING, observed_at=NOW)
    state = Airflow.default()
    client = as_user(ada)

    def shown(looked_at: Any, *, reachable: bool = True) -> tuple[str, bool]:
        Airflow.objects.filter(pk=state.pk).update(looked_at=looked_at, reachable=reachable)
        body = client.get(path_of(run)).json()
        return body["observed_at"], body["stale"]

    confirmed = now.isoformat().replace("+00:00", "Z")
    assert shown(now) == (confirmed, False)
    assert shown(now, reachable=False) == (confirmed, True)
    assert shown(now - timedelta(seconds=21))[1]
    Run.objects.update(state=RunState.SUCCESS)
    assert shown(now)[0] == "2026-03-01T12:00:00Z"


def test_an_unknown_run_and_one_of_another_workflow_are_not_found(
    as_user: AsUser, ada: User, nightly: Workflow, secret: Workflow
) -> None:
    run = new_run(nightly)
    client = as_user(ada)

    for path in (
        f"{runs_of(nightly)}/{uuid.uuid4()}",
        f"{runs_of(secret)}/{run.pk}",
        f"{runs_of(nightly)}/not-a-uuid",
    ):
        refused(lambda path=path: client.get(path), 404, "not_found")  # type: ignore[misc]
        refused(lambda path=path: client.post(f"{path}/control", {"action": "stop"}), 404, "not_found")  # type: ignore[misc]


def test_lists_do_not_show_private_runs_of_others(
    as_user: AsUser, eve: User, nightly: Workflow, secret: Workflow
) -> None:
    run, hidden = new_run(nightly), new_run(secret)
    client = as_user(eve)

    assert [found["id"] for found in client.get(f"{V1}/runs").json()["results"]] == [str(run.pk)]
    assert client.get(path_of(hidden)).status_code == 404
    assert client.get(f"{path_of(hidden)}/events").status_code == 404
    assert client.get(f"{path_of(hidden)}/tasks").status_code == 404


def test_runs_are_listed_newest_first_and_paged_by_keyset(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    runs = [new_run(nightly) for _ in range(5)]
    for n, run in enumerate(runs):
        Run.objects.filter(pk=run.pk).update(created_at=at(n))
    client = as_user(ada)

    first = client.get(f"{V1}/runs?page_size=2").json()
    new_run(nightly)
    second = client.get(first["next"]).json()

    ids = [found["id"] for found in first["results"] + second["results"]]
    assert ids == [str(run.pk) for run in reversed(runs[1:])]
    assert set(first) == {"next", "previous", "results"}


def test_runs_are_filtered(as_user: AsUser, ada: User, eve: User, nightly: Workflow, secret: Workflow) -> None:
    first = new_run(nightly, RunState.RUNNING, task_id=7, note="urgent")
    second = new_run(nightly, RunState.FAILED, task_id="7", user=eve)
    third = new_run(secret, RunState.SUCCESS, dataset_id="d-1")
    Run.objects.filter(pk=third.pk).update(created_at=at(60))
    client = as_user(ada)

    def found(query: str) -> set[str]:
        return {run["id"] for run in client.get(f"{V1}/runs?{query}").json()["results"]}

    def ids(*runs: Run) -> set[str]:
        return {str(run.pk) for run in runs}

    assert found("state=running") == ids(first)
    assert found("state=running&state=failed") == ids(first, second)
    assert found(f"workflow={secret.pk}") == ids(third)
    assert found(f"user={eve.pk}") == ids(second)
    assert found("task_id=7") == ids(first, second)
    assert found("dataset_id=d-1") == ids(third)
    assert found("dag_id=etl&state=success") == ids(third)
    assert found("created_after=2026-03-01T12:00:30Z") == ids(third)
    assert found("created_before=2026-03-01T12:00:30Z") == ids(first, second)
    assert found("search=URGENT") == ids(first)


@pytest.mark.parametrize(
    "query",
    [
        "state=dancing",
        "workflow=abc",
        "workflow=" + "9" * 30,
        "user=" + "9" * 30,
        "created_after=yesterday",
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(as_user: AsUser, ada: User, nightly: Workflow, query: str) -> None:
    answer = as_user(ada).get(f"{V1}/runs?{query}")

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert list(answer.json()["errors"]) == [query.split("=")[0]]


@pytest.mark.parametrize(
    "query",
    [
        "task_id=" + "9" * 5000,
        "task_id=" + "9" * 30,
        "task_id=--7",
        "search=%25",
    ],
)
def test_a_query_without_matches_is_not_an_error(as_user: AsUser, ada: User, nightly: Workflow, query: str) -> None:
    for _ in range(3):
        new_run(nightly)

    answer = as_user(ada).get(f"{V1}/runs?page_size=1&{query}")

    assert (answer.status_code, answer.json()["results"]) == (200, [])


# The last two are well-formed cursors: "p=abc" and "p=1'r=1".
@pytest.mark.parametrize("cursor", ["nonsense", "cD1hYmM=", "cD0xJ3I9MQ=="])
def test_a_cursor_that_makes_no_sense_is_refused(as_user: AsUser, ada: User, cursor: str) -> None:
    client = as_user(ada)

    errors = {"cursor": ["Expected the cursor of a next or previous link."]}
    refused(lambda: client.get(f"{V1}/runs?cursor={cursor}"), 400, "invalid", errors=errors)


@pytest.mark.parametrize("write", [str, lambda pk: pk.hex, lambda pk: pk.hex.upper()])
def test_an_id_of_a_run_is_the_same_with_and_without_dashes(
    as_user: AsUser, ada: User, nightly: Workflow, write: Callable[[UUID], str]
) -> None:
    """Before: a path and a log wanted the dashes, a query and a body did not."""
    run, client = new_run(nightly), as_user(ada)
    written = write(run.pk)

    assert client.get(f"{V1}/workflows/{nightly.pk}/runs/{written}").json()["id"] == str(run.pk)
    assert client.get(f"{V1}/workflows/{nightly.pk}/runs/{written}/tasks/x/logs").status_code != 404
    assert client.get(f"{V1}/events?run={written}").status_code == 200
    assert client.get(f"{V1}/notifications/deliveries?run={written}").status_code == 200
    ticket = client.post(f"{V1}/tickets", {"run_id": written, "actions": ["view"]})
    assert ticket.json()["run_id"] == str(run.pk)


def test_what_is_no_uuid_is_no_id_of_a_run(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    run, client = new_run(nightly), as_user(ada)

    for wrong in (f"{{{run.pk}}}", f"urn:uuid:{run.pk}", run.pk.hex[:-1]):
        assert client.get(f"{V1}/workflows/{nightly.pk}/runs/{wrong}").status_code == 404
        assert client.get(f"{V1}/events", {"run": wrong}).status_code == 400


def test_the_tasks_of_a_run_are_listed(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    run = new_run(nightly, RunState.RUNNING)
    run.tasks.create(task_id="extract", state="success", try_number=2, started_at=at(1), ended_at=at(4))
    run.tasks.create(task_id="load", map_index=3)
    # A pass of a loop, in a state that no Airflow of today has.
    run.tasks.create(task_id="load", map_index=3, state="hibernating", instance_id="id-2")

    tasks = as_user(ada).get(f"{path_of(run)}/tasks").json()["results"]

    shown = [
        (task["task_id"], task["map_index"], task["state"], task["try_number"], task["duration_s"]) for task in tasks
    ]
    assert shown == [
        ("extract", -1, "success", 2, 3.0),
        ("load", 3, "", 0, None),
        ("load", 3, "hibernating", 0, None),
    ]
    assert [task["instance_id"] for task in tasks] == ["", "", "id-2"]
    assert {task["stale"] for task in tasks} == {True}


def test_the_events_of_a_run_are_listed_in_order_once_they_are_published(
    as_user: AsUser, ada: User, nightly: Workflow
) -> None:
    run = new_run(nightly)
    for seq, position in ((1, 11), (2, 12), (3, None)):
        Event.objects.create(
            run=run,
            workflow=nightly,
            user=ada,
            seq=seq,
            position=position,
            type="task.started",
            task_id="t",
            timestamp=NOW,
        )

    body = as_user(ada).get(f"{path_of(run)}/events").json()

    assert [(event["id"], event["seq"]) for event in body["results"]] == [(11, 1), (12, 2)]
    assert body["results"][0] == {
        "id": 11, "seq": 1, "type": "task.started", "workflow_id": nightly.pk, "run_id": str(run.pk),
        "task_id": "t", "user_id": ada.pk, "timestamp": "2026-03-01T12:00:00Z", "data": {},
    }  # fmt: skip
