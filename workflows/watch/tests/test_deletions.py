"""The sweep finds ended runs that were deleted in Airflow, page by page."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from workflows import gateway, services
from workflows.airflow.tests.scripted import Reply
from workflows.models import Airflow, Run, Workflow
from workflows.naming import DEFAULT
from workflows.services.errors import WrongStateError
from workflows.states import RunState
from workflows.tests.stage import StagedAirflow, at, new_run, story, task
from workflows.watch import deletions, poll, sweeps
from workflows.watch.tests.polls import polled

pytestmark = pytest.mark.django_db


def ended(workflow: Workflow, airflow: StagedAirflow, second: float = 1, state: RunState = RunState.SUCCESS) -> Run:
    """A run that has ended here and in Airflow. Each is newer than the last."""
    run = new_run(workflow, state, started_at=at(second), ended_at=at(second + 1))
    Run.objects.filter(pk=run.pk).update(created_at=timezone.now())
    airflow.put(run, "success" if state == RunState.SUCCESS else "failed", start=second, end=second + 1)
    return run


def delete(airflow: StagedAirflow, run: Run) -> None:
    del airflow.runs[run.dag_id, run.dag_run_id]


def sweep() -> None:
    Airflow.default()
    with gateway.watched(DEFAULT) as client:
        sweeps.sweep(client, now=timezone.now())


@pytest.mark.parametrize("state", [RunState.SUCCESS, RunState.FAILED, RunState.STOPPED])
def test_a_deleted_run_is_recorded_once_and_keeps_its_state(
    airflow: StagedAirflow, nightly: Workflow, ada: User, state: RunState
) -> None:
    run, other = ended(nightly, airflow, state=state), ended(nightly, airflow)
    delete(airflow, run)

    sweep()
    sweep()

    run.refresh_from_db()
    assert (run.state, run.attempt, run.ended_at) == (state, 1, at(2))
    assert story(run) == ["workflow.external_change deleted"]
    assert story(other) == []
    asked = len(airflow.calls)
    with pytest.raises(WrongStateError, match="it was deleted in Airflow"):
        services.retry_run(run=run, actor=ada, mode="all")
    assert len(airflow.calls) == asked


def test_a_sweep_reads_only_what_the_list_does_not_show(airflow: StagedAirflow, nightly: Workflow) -> None:
    for _ in range(30):
        ended(nightly, airflow)

    sweep()

    reads = [path for method, path in airflow.calls if method == "GET" and "/dagRuns/" in path]
    lists = [path for method, path in airflow.calls if path.endswith("/dagRuns/list")]
    assert (reads, len(lists)) == ([], 1)


def test_the_next_sweep_goes_on_behind_the_last_run(
    airflow: StagedAirflow, nightly: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletions, "PAGE", 2)
    runs = [ended(nightly, airflow) for _ in range(5)]
    Run.objects.filter(pk__in=[run.pk for run in runs]).update(created_at=timezone.now())
    for run in runs:
        delete(airflow, run)
    recorded = []

    for _ in range(4):
        sweep()
        recorded.append(sum(story(run) == ["workflow.external_change deleted"] for run in runs))

    assert recorded == [2, 4, 5, 5]


def test_more_missing_runs_than_one_sweep_reads_are_read_by_the_next(
    airflow: StagedAirflow, nightly: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletions, "READ_AT_ONCE", 2)
    runs = [ended(nightly, airflow) for _ in range(5)]
    airflow.runs.clear()
    recorded = []

    for _ in range(3):
        sweep()
        recorded.append(sum(story(run) == ["workflow.external_change deleted"] for run in runs))

    assert recorded == [2, 4, 5]


def test_a_run_that_our_account_may_no_longer_see_is_not_deleted(airflow: StagedAirflow, nightly: Workflow) -> None:
    hidden, deleted = ended(nightly, airflow), ended(nightly, airflow)
    airflow.runs.clear()
    airflow.answers["GET", f"/dags/etl/dagRuns/{hidden.dag_run_id}"] = lambda _: Reply(403, {"detail": "Forbidden"})

    sweep()

    assert (story(hidden), story(deleted)) == ([], ["workflow.external_change deleted"])


def test_a_run_whose_start_moved_in_airflow_is_not_deleted(airflow: StagedAirflow, nightly: Workflow) -> None:
    run = ended(nightly, airflow)
    airflow.put(run, "queued")

    sweep()

    assert story(run) == []


def test_a_run_of_long_ago_may_be_cleaned_up_in_airflow(
    airflow: StagedAirflow, nightly: Workflow, settings: Settings
) -> None:
    settings.DELETIONS_DAYS = 2
    old, recent = ended(nightly, airflow), ended(nightly, airflow)
    Run.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=2))
    Run.objects.filter(pk=recent.pk).update(created_at=timezone.now() - timedelta(days=1, hours=23))
    airflow.runs.clear()

    sweep()

    assert (story(old), story(recent)) == ([], ["workflow.external_change deleted"])


def test_a_run_that_airflow_never_had_is_not_looked_for(airflow: StagedAirflow, nightly: Workflow) -> None:
    run = new_run(nightly, RunState.PENDING)
    Run.objects.filter(pk=run.pk).update(state=RunState.STOPPED, created_at=timezone.now())

    sweep()

    assert story(run) == []


def test_while_airflow_is_away_nothing_is_recorded(nightly: Workflow, no_airflow: None) -> None:
    run = new_run(nightly, RunState.SUCCESS, started_at=at(1), ended_at=at(2))
    Run.objects.filter(pk=run.pk).update(created_at=timezone.now())

    assert not poll.tick(DEFAULT, now=timezone.now())

    assert story(run) == []


def test_a_run_made_anew_under_the_id_of_a_deleted_one_is_another_attempt(
    airflow: StagedAirflow, nightly: Workflow, ada: User
) -> None:
    run = ended(nightly, airflow)
    polled(run, 3, None, task(run, "extract", "success", start=1, end=2))
    delete(airflow, run)
    sweep()
    recorded = len(story(run))
    Airflow.objects.update(compared_run=None)
    now = (timezone.now() - at(0)).total_seconds()

    polled(run, now + 10, "running", task(run, "extract", "running", start=now + 6), start=now + 5)
    whole = task(run, "extract", "success", start=now + 6, end=now + 8)
    polled(run, now + 20, "success", whole, start=now + 5, end=now + 9)

    assert story(run)[recorded:] == [
        "workflow.external_change recreated",
        "workflow.started",
        "task.started extract 1",
        "task.completed extract 1",
        "workflow.completed",
    ]
    airflow.put(run, "success", start=now + 5, end=now + 9)
    airflow.put_task(run, "extract", "success", start=now + 6, end=now + 8)
    assert services.preview_retry(run=run, mode="all") == [("extract", -1)]
