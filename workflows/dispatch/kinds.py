"""What each kind of command does in Airflow, and then here. Each is safe to do twice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from workflows.airflow import AirflowClient, types
from workflows.airflow.errors import AirflowNotFoundError, AirflowRejectedError
from workflows.dispatch import results as reading
from workflows.dispatch.commands import TaskSelection
from workflows.lifecycle import freezing, moves, results
from workflows.models import AirflowCommand, CommandKind, Dag, Run
from workflows.states import RunState


@transaction.atomic(savepoint=False)
def finish(command: AirflowCommand, *, now: datetime, error: str = "") -> None:
    """Record that the command is done, or given up with an `error`."""
    _finish(command, now=now, error=error)
    if command.kind != CommandKind.RESULT:
        _date_observations(command, now=now)


def _finish(command: AirflowCommand, *, now: datetime, error: str = "") -> None:
    AirflowCommand.objects.filter(pk=command.pk).update(finished_at=now, leased_until=None, last_error=error)


def _date_observations(command: AirflowCommand, *, now: datetime) -> None:
    """An observation from before this moment may be older than the effect of the command."""
    if command.run_id:
        Run.objects.filter(pk=command.run_id).update(observed_at=now)


def run_of(command: AirflowCommand) -> Run:
    """Return the run of a command as it is now."""
    return Run.objects.select_related("workflow__dag").get(commands=command)


def _trigger(command: AirflowCommand, client: AirflowClient) -> None:
    """Start the run in Airflow. Safe to repeat: its dag_run_id is fixed, and a run that exists is adopted."""
    run = command.run
    assert run is not None, "a trigger is for a run"  # noqa: S101
    if run.state != RunState.PENDING:
        # It was stopped. The stop that follows finds out whether an earlier attempt reached Airflow.
        finish(command, now=timezone.now())
        return
    seen = client.runs.trigger(
        run.dag_id,
        dag_run_id=run.dag_run_id,
        conf=run.conf,
        note=run.note or None,
        logical_date=run.logical_date,
        data_interval=run.data_interval,
    )
    _record_queued(command, run, queued_at=seen.queued_at, now=timezone.now())


@transaction.atomic
def _record_queued(command: AirflowCommand, run: Run, *, queued_at: datetime | None, now: datetime) -> None:
    _finish(command, now=now)
    queued_at = queued_at or now
    pending = Run.objects.filter(pk=run.pk, state=RunState.PENDING)
    if not pending.update(state=RunState.QUEUED, queued_at=queued_at, observed_at=now):
        # A stop has come first. Its command follows and finds the run in Airflow.
        _date_observations(command, now=now)
        return
    run.state, run.queued_at, run.observed_at = RunState.QUEUED, queued_at, now
    freezing.freeze_if_dag_paused(run, now=now)


def _stop(command: AirflowCommand, client: AirflowClient) -> None:
    """End the run and its open tasks in Airflow. Safe to repeat, also on a run that has ended there."""
    run = run_of(command)
    try:
        if run.state != RunState.STOPPING and not _goes_on_after_its_stop(run, client):
            finish(command, now=timezone.now())
            return
        client.runs.set_state(run.dag_id, run.dag_run_id, "failed")
    except AirflowNotFoundError:
        with transaction.atomic():
            finish(command, now=timezone.now())
            moves.finish_stop(run, at=timezone.now())
        return
    finish(command, now=timezone.now())


def _goes_on_after_its_stop(run: Run, client: AirflowClient) -> bool:
    """Return whether this is a repeat of a stop that was complete, and nobody has restarted the run in Airflow since.

    A run that has ended by itself, or that somebody restarts, must not be stopped.
    """
    return run.state == RunState.STOPPED and client.runs.get(run.dag_id, run.dag_run_id).state in {"failed", "success"}


def _clear(command: AirflowCommand, client: AirflowClient) -> None:
    """Clear tasks in Airflow, so that they run again. A repeat clears only if the first attempt had no effect.

    Raises `AirflowRejectedError` if Airflow has cleared nothing: then the run has not begun again.
    """
    run = run_of(command)
    repeated = command.attempts > 1
    if repeated and _has_begun_again(run, client.runs.get(run.dag_id, run.dag_run_id)):
        finish(command, now=timezone.now())
        return
    if not clear(client, run, TaskSelection(**command.arguments), dry_run=False):
        raise AirflowRejectedError("Airflow has nothing to run again")
    finish(command, now=timezone.now())


def _has_begun_again(run: Run, seen: types.DagRun) -> bool:
    """Return whether Airflow has cleared the run since its last attempt. It may have ended again by now."""
    if seen.state in {"queued", "running"}:
        return True
    last = run.attempts.last()
    ended_at = last.ended_at if last else None
    return bool(seen.start_date and ended_at and seen.start_date > ended_at)


def clear(client: AirflowClient, run: Run, tasks: TaskSelection, *, dry_run: bool) -> list[tuple[str, int]]:
    """Clear tasks of a run, or only list them. Return the (task_id, map_index) of each."""
    refs = client.tasks.clear(
        run.dag_id,
        run.dag_run_id,
        task_ids=tasks.task_ids,
        instances=[(task_id, map_index) for task_id, map_index in tasks.instances],
        only_failed=tasks.only_failed,
        include_downstream=tasks.include_downstream,
        dry_run=dry_run,
    )
    return sorted((ref.task_id, ref.map_index) for ref in refs)


def _set_paused(command: AirflowCommand, client: AirflowClient) -> None:
    """Pause or unpause the DAG. Safe to repeat: it sets a state."""
    dag = Dag.objects.get(commands=command)
    client.dags.set_paused(dag.dag_id, command.kind == CommandKind.PAUSE)
    finish(command, now=timezone.now())


def _read_result(command: AirflowCommand, client: AirflowClient) -> None:
    """Read the result of a run that has succeeded. Safe to repeat: it is recorded once, for its own attempt."""
    run, attempt = run_of(command), command.arguments["attempt"]
    if not results.is_awaited(run, attempt):
        finish(command, now=timezone.now())
        return
    known = reading.read(client, run, command.arguments["task_id"], now=timezone.now())
    with transaction.atomic():
        finish(command, now=timezone.now())
        results.settle(run, attempt=attempt, known=known, now=timezone.now())


KINDS: dict[CommandKind, Callable[[AirflowCommand, AirflowClient], None]] = {
    CommandKind.TRIGGER: _trigger,
    CommandKind.STOP: _stop,
    CommandKind.CLEAR: _clear,
    CommandKind.PAUSE: _set_paused,
    CommandKind.UNPAUSE: _set_paused,
    CommandKind.RESULT: _read_result,
}
