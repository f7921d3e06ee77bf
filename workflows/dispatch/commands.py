"""Record commands to Airflow, and take them back: triggers, stops, clears, and pauses of DAGs.

Each function shares the transaction of the change that causes the command, so the command survives a crash at any
line. `dispatcher` sends it after the commit.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from workflows.dispatch import backoff
from workflows.lifecycle.moves import StopRequest
from workflows.models import AirflowCommand, AirflowCommandQuerySet, CommandKind, Dag, Run


@dataclass(frozen=True, kw_only=True)
class TaskSelection:
    """Which tasks of a run to clear: the named ones or all (None), and of these perhaps only the failed ones.

    `instances` are single ones, as [task_id, map_index], beside the named tasks.
    """

    task_ids: list[str] | None = None
    instances: list[list[Any]] = field(default_factory=list)
    only_failed: bool = False
    include_downstream: bool = False


def record_triggers(runs: Sequence[Run], *, now: datetime, leased_until: datetime | None) -> list[AirflowCommand]:
    """Record that Airflow must start these new runs: each at its `run_at`, or at once.

    With `leased_until`, the caller dispatches what starts at once right after the commit. Until then nobody else does,
    and no other trigger waits for it: requests at the same time have no order.
    """
    commands = [
        AirflowCommand(kind=CommandKind.TRIGGER, airflow_id=run.airflow_name, workflow_id=run.workflow_id, run=run)
        for run in runs
    ]
    for command, run in zip(commands, runs, strict=True):
        command.created_at, command.due_at = now, run.run_at or now
        if leased_until and not run.run_at:
            command.due_at = command.leased_until = leased_until
            command.attempts, command.may_have_arrived = 1, True
    return AirflowCommand.objects.bulk_create(commands)


def give_back(commands: Iterable[AirflowCommand], *, now: datetime) -> None:
    """Leave new triggers that the caller has leased, and not sent, to the next worker."""
    not_sent = AirflowCommand.objects.filter(pk__in=[command.pk for command in commands])
    not_sent.update(leased_until=None, due_at=now, attempts=0, may_have_arrived=False)


def record_stop(run: Run, request: StopRequest, *, now: datetime) -> AirflowCommand:
    """Record that Airflow must end the run."""
    return _record(CommandKind.STOP, run, asdict(request), now=now)


def record_clear(run: Run, tasks: TaskSelection, *, now: datetime) -> AirflowCommand:
    """Record that Airflow must run tasks of the run again."""
    return _record(CommandKind.CLEAR, run, asdict(tasks), now=now)


def _record(kind: CommandKind, run: Run, arguments: dict[str, Any], *, now: datetime) -> AirflowCommand:
    return AirflowCommand.objects.create(
        kind=kind,
        airflow_id=run.airflow_name,
        run=run,
        workflow_id=run.workflow_id,
        arguments=arguments,
        created_at=now,
        due_at=now,
    )


def record_results(owed: Iterable[tuple[Run, str, datetime]]) -> None:
    """Record that the results of these runs must be read: each run with its result task, and since when."""
    AirflowCommand.objects.bulk_create(
        AirflowCommand(
            kind=CommandKind.RESULT,
            airflow_id=run.airflow_name,
            run=run,
            workflow_id=run.workflow_id,
            arguments={"attempt": run.attempt, "task_id": task_id},
            created_at=now,
            due_at=now,
        )
        for run, task_id, now in owed
    )


def record_pause(dag: Dag, *, paused: bool, now: datetime) -> AirflowCommand:
    """Record that Airflow must pause the DAG, or unpause it."""
    kind = CommandKind.PAUSE if paused else CommandKind.UNPAUSE
    return AirflowCommand.objects.create(kind=kind, airflow_id=dag.airflow_name, dag=dag, created_at=now, due_at=now)


def repeat_stop(run: Run, *, at: datetime) -> None:
    """Dispatch the stop again, because at `at` Airflow has ended the run but a task goes on.

    This happens to a task that starts while Airflow stops the run: Airflow neither fails nor skips it. A second stop
    ends it. The same command is sent again, so each repeat waits longer. An observation from before the command was
    dispatched is no reason for a repeat.
    """
    stop = run.commands.filter(kind=CommandKind.STOP).last()
    if stop and stop.finished_at and stop.finished_at < at:
        stop.finished_at = None
        stop.due_at = at + backoff.delay(stop.attempts, jitter=random.random())  # noqa: S311 - spreads load only
        stop.save(update_fields=["finished_at", "due_at"])


def is_stop_recent(run: Run, *, within: timedelta, now: datetime) -> bool:
    """Return whether a stop of the run has still to be dispatched, or was dispatched less than `within` ago."""
    stop = run.commands.filter(kind=CommandKind.STOP).last()
    return stop is not None and (stop.finished_at is None or now - stop.finished_at < within)


def waiting_for_clear(run_ids: Collection[UUID]) -> set[UUID]:
    """Return those of these runs of which tasks have still to be cleared in Airflow."""
    pending = AirflowCommand.objects.pending().filter(run__in=run_ids, kind=CommandKind.CLEAR)
    return {run_id for run_id in pending.values_list("run_id", flat=True) if run_id}


def withdraw_trigger(run: Run, *, now: datetime) -> bool:
    """Take back a trigger that cannot have reached Airflow. Return whether it was in time."""
    waiting = _waiting_trigger(run, now=now).filter(may_have_arrived=False)
    return waiting.update(finished_at=now, last_error="withdrawn: the run was stopped") == 1


def hold_trigger(run: Run, *, held: bool, now: datetime) -> bool:
    """Hold a trigger that no worker has leased, or release it. Return whether there was one."""
    return _waiting_trigger(run, now=now).filter(held=not held).update(held=held) == 1


def _waiting_trigger(run: Run, *, now: datetime) -> AirflowCommandQuerySet:
    return AirflowCommand.objects.pending().free(now).filter(run=run, kind=CommandKind.TRIGGER)
