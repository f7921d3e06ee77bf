"""Stop and retry runs. `triggers` starts them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, get_args

from django.db import transaction
from django.utils import timezone

from accounts import audit
from rest.errors import InvalidInputError
from workflows import gateway
from workflows.access import require_runner
from workflows.airflow.errors import AirflowError, AirflowNotFoundError
from workflows.dispatch import commands, dispatcher, kinds
from workflows.dispatch.commands import TaskSelection
from workflows.eventlog import events
from workflows.eventlog.events import RetryMode
from workflows.lifecycle import deletions, exits, freezing, moves
from workflows.lifecycle.moves import StopRequest
from workflows.models import Airflow, Run, TaskInstance
from workflows.services.errors import WorkflowInactiveError, WrongStateError
from workflows.services.retries import Graph, Instance, Key, Retry
from workflows.states import TERMINAL, RunState

if TYPE_CHECKING:
    from accounts.models import User

RETRY_MODES: tuple[RetryMode, ...] = get_args(RetryMode)


@dataclass(frozen=True, kw_only=True)
class RetryRequest:
    """A request to run tasks of an ended run again. Only `from_task` has a task to begin at, and an instance of it."""

    mode: RetryMode
    task_id: str | None = None
    map_index: int | None = None
    note: str = ""


def stop_run(*, run: Run, actor: User, note: str = "") -> Run:
    """Stop the run: it is `stopping` at once, and `stopped` when every task instance has ended.

    A run that was never dispatched is `stopped` at once. Raises `WrongStateError` when the run has ended or is
    stopping already.
    """
    require_runner(run.workflow, actor)
    _stop(run, actor, note=note, now=timezone.now())
    return dispatch_and_reload(run)


@transaction.atomic
def _stop(run: Run, actor: User, *, note: str, now: datetime) -> None:
    run = Run.objects.select_for_update().get(pk=run.pk)
    request = StopRequest(by=actor.get_username(), note=note)
    audit.record("run.stopped", run, before={"state": run.state}, after={"note": note}, actor=actor)
    if commands.withdraw_trigger(run, now=now):
        run.state_reason = request.reason()
        run.save(update_fields=["state_reason"])
        moves.finish_stop(run, at=now, request=request)
        return
    if not moves.move(run, to=RunState.STOPPING, stop_requested_at=now, state_reason=request.reason()):
        raise WrongStateError(run, "stopped")
    # The stop waits for the trigger before it, which may have reached Airflow before it was held: release it.
    commands.hold_trigger(run, held=False, now=now)
    exits.exempt_long_ended(run, now=now)
    commands.record_stop(run, request, now=now)


def retry_run(
    *,
    run: Run,
    actor: User,
    mode: RetryMode = "failed",
    task_id: str | None = None,
    map_index: int | None = None,
    note: str = "",
) -> Run:
    """Run tasks of an ended run again: the `failed` ones and what follows them, `all`, or `from_task` and later ones.

    `failed` includes what was cut off by the end of the run, but not what was skipped on purpose. `map_index` narrows
    `from_task` to one instance. Raises `WrongStateError` while the run is open or if nothing would run,
    `WorkflowInactiveError` when its workflow cannot run at all, `InvalidInputError` for a task that the run does not
    have.
    """
    require_runner(run.workflow, actor)
    asked = RetryRequest(mode=mode, task_id=task_id, map_index=map_index, note=note)
    _check_retry(run, asked)
    _require_in_airflow(run)
    _retry(run, actor, asked, now=timezone.now())
    return dispatch_and_reload(run)


def preview_retry(
    *, run: Run, mode: RetryMode = "failed", task_id: str | None = None, map_index: int | None = None
) -> list[tuple[str, int]]:
    """Return the (task_id, map_index) of what a retry would run again, as Airflow reports it. Changes nothing."""
    asked = RetryRequest(mode=mode, task_id=task_id, map_index=map_index)
    _check_retry(run, asked)
    tasks = _tasks_of_retry(run, asked)
    if deletions.was_deleted(run):
        raise _deleted(run)
    with gateway.translated(run.airflow_name), gateway.watched(run.airflow_name) as client:
        try:
            refs = kinds.clear(client, run, tasks, dry_run=True)
        except AirflowNotFoundError:
            if deletions.is_gone(client, run, now=timezone.now()):
                raise _deleted(run) from None
            raise
    if not refs:
        raise _nothing_to_run(run, asked)
    return refs


def _check_retry(run: Run, asked: RetryRequest) -> None:
    if run.state not in TERMINAL:
        raise WrongStateError(run, "retried")
    if run.queued_at is None:
        raise WrongStateError(run, "retried because Airflow never had it")
    if asked.mode == "failed" and run.state == RunState.SUCCESS:
        raise WrongStateError(run, "retried with mode failed: nothing has failed")
    if hindrance := moves.why_not_retriable(run):
        raise WorkflowInactiveError(hindrance)
    if asked.mode == "from_task":
        _check_begin(run, asked)
        return
    only_there = {"from_task": asked.task_id, "map_index": asked.map_index}
    if given := [name for name, value in only_there.items() if value is not None]:
        raise InvalidInputError({name: ["Only allowed with mode from_task."] for name in given})


def _check_begin(run: Run, asked: RetryRequest) -> None:
    """Raise `InvalidInputError` if the run does not have the task, or its instance, to begin at."""
    if asked.task_id is None:
        raise InvalidInputError({"from_task": ["Required for mode from_task."]})
    indexes = list(run.tasks.filter(task_id=asked.task_id).values_list("map_index", flat=True))
    if not indexes:
        known = ", ".join(run.tasks.values_list("task_id", flat=True).distinct().order_by("task_id"))
        raise InvalidInputError({"from_task": [f"The run has no task {asked.task_id!r}; it has: {known}."]})
    if asked.map_index is None:
        return
    if asked.map_index not in indexes:
        message = (
            f"The task {asked.task_id!r} has no instance {asked.map_index}; it has {min(indexes)} to {max(indexes)}."
        )
        raise InvalidInputError({"map_index": [message]})
    if asked.map_index >= 0 and Airflow.named(run.airflow_name).version.startswith("2."):
        raise InvalidInputError({"map_index": ["Airflow 2 can only run all instances of a mapped task again."]})


def _tasks_of_retry(run: Run, asked: RetryRequest) -> TaskSelection:
    """Return what Airflow must clear. Raises `WrongStateError` if that is nothing."""
    tasks = list(run.tasks.all())
    if not tasks:
        raise _nothing_to_run(run, asked)
    if asked.mode == "all":
        return TaskSelection()
    retry = Retry(Graph.of(run.dag.tasks), _instances_of(run, tasks), ended_at=_end_in_airflow(run))
    if asked.mode == "from_task":
        named = (task for task in tasks if task.task_id == asked.task_id)
        begin = {Key(one.task_id, one.map_index) for one in named if asked.map_index in {None, one.map_index}}
        cleared = retry.of(begin)
    else:
        cleared = retry.of_failed()
    if not cleared:
        raise _nothing_to_run(run, asked)
    return retry.selection(cleared)


def _require_in_airflow(run: Run) -> None:
    """Raise `WrongStateError` if the run was deleted in Airflow. While that does not answer, nothing new is learnt."""
    gone = deletions.was_deleted(run)
    if not gone and gateway.answers(run.airflow_name):
        with suppress(AirflowError), gateway.watched(run.airflow_name, hurried=True) as client:
            gone = deletions.is_gone(client, run, now=timezone.now())
    if gone:
        raise _deleted(run)


def _deleted(run: Run) -> WrongStateError:
    return WrongStateError(run, "retried: it was deleted in Airflow")


def _nothing_to_run(run: Run, asked: RetryRequest) -> WrongStateError:
    return WrongStateError(run, f"retried with mode {asked.mode}: nothing would run")


def _end_in_airflow(run: Run) -> datetime | None:
    """Return when Airflow ended the run. A stop is complete only later."""
    return run.stop_requested_at if run.state == RunState.STOPPED and run.stop_requested_at else run.ended_at


def _instances_of(run: Run, tasks: Iterable[TaskInstance]) -> list[Instance]:
    retrying = run.events.filter(type=events.TaskRetrying.type)
    awaited = set(retrying.values_list("task_id", "data__map_index", "data__try_number"))
    return [
        Instance(
            key=Key(task.task_id, task.map_index),
            state=task.state,
            started_at=task.started_at,
            ended_at=task.ended_at,
            awaited_try=(task.task_id, task.map_index, task.try_number) in awaited,
        )
        for task in tasks
    ]


@transaction.atomic
def _retry(run: Run, actor: User, asked: RetryRequest, *, now: datetime) -> None:
    run = Run.objects.select_for_update().get(pk=run.pk)
    if run.state not in TERMINAL:
        raise WrongStateError(run, "retried")
    # Its Airflow was asked since the first check: it may have been drained meanwhile.
    if hindrance := moves.why_not_retriable(run):
        raise WorkflowInactiveError(hindrance)
    tasks = _tasks_of_retry(run, asked)
    if not moves.reopen(run):
        raise WrongStateError(run, "retried")
    data = events.WorkflowRetried(**events.fields_of(run), mode=asked.mode, note=asked.note, by=actor.get_username())
    events.record(data, now=now, run=run)
    freezing.freeze_if_dag_paused(run, now=now)
    audit.record("run.retried", run, after=asdict(asked), actor=actor)
    commands.record_clear(run, tasks, now=now)


def dispatch_and_reload(run: Run) -> Run:
    """After the commit: dispatch the run's commands, with a short budget. Return the run as it is then."""
    dispatcher.dispatch_now(run)
    return Run.objects.select_related("workflow__dag", "user").get(pk=run.pk)
