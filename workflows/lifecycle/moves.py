"""How a run moves: each function changes the state along the table in `workflows.states` and records the event.

The caller holds the transaction, and the row lock if it has read the run before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Unpack

from django.db.models import Max

from workflows.access import DagRights, why_dag_is_closed
from workflows.eventlog import events
from workflows.models import Airflow, CommandKind, Dag, Run, RunAttempt, RunChanges, TriggerType, Workflow, with_state
from workflows.states import ENTERED_FROM, RunState


@dataclass(frozen=True, kw_only=True)
class StopRequest:
    """Who asked for a stop, and why. Both are empty when that is not known any more."""

    by: str = ""
    note: str = ""

    def reason(self) -> str:
        return f"stopped by {self.by}" + (f": {self.note}" if self.note else "")


def why_not_triggerable(
    workflow: Workflow, *, airflow: Airflow | None = None, owners_rights: DagRights | None = None
) -> str:
    """Return why no run of this workflow can start, or "" when one can. Its Airflow, if given, saves a query."""
    return _why_closed(workflow, owners_rights) or (airflow or _airflow_of(workflow.dag)).why_no_new_runs


def _why_closed(workflow: Workflow, owners_rights: DagRights | None = None) -> str:
    """Return why nothing can run in this workflow, whatever its Airflow takes."""
    if workflow.deleted_at:
        return "The workflow was deleted."
    if not workflow.is_active:
        return "The workflow is not active: set is_active to true first."
    if not workflow.dag.is_present:
        return f"Airflow does not have the DAG {workflow.dag.dag_id} any more."
    return why_dag_is_closed(workflow, owners_rights=owners_rights) or why_not_usable(workflow.dag)


def why_not_retriable(run: Run) -> str:
    """Return why the run cannot be retried, or "".

    The workflow may have got another DAG since the run began, perhaps in another Airflow.
    """
    hindrance = _why_closed(run.workflow) or _airflow_of(run).why_no_new_runs
    if hindrance or run.is_on(run.workflow.dag):
        return hindrance
    dag = Dag.objects.of_run(run).first()
    return why_dag_is_closed(run.workflow, dag) if dag else f"Airflow does not have the DAG {run.dag_id} any more."


def _airflow_of(target: Run | Dag) -> Airflow:
    return Airflow.named(target.airflow_name)


def why_not_usable(dag: Dag) -> str:
    """Return why nothing can be said about the parameters of a run of this DAG, or "" when something can."""
    return f"SVOps cannot use the DAG {dag.dag_id}: {dag.unusable_reason}" if dag.unusable_reason else ""


def accept(run: Run, *, now: datetime) -> None:
    """Do `accept_all` for one run."""
    accept_all([run], now=now)


def accept_all(runs: Sequence[Run], *, now: datetime) -> None:
    """Store new runs, each with its first event. The caller records the commands to Airflow, if they are needed."""
    for place, run in enumerate(runs):
        # A list is in the order of these times.
        run.created_at = now + timedelta(microseconds=place)
        run.event_count = 1
    Run.objects.bulk_create(runs)
    events.record_all(events.Entry(data=_triggered(run), now=run.created_at, run=run, seq=1) for run in runs)


def _triggered(run: Run) -> events.WorkflowTriggered:
    return events.WorkflowTriggered(
        **events.fields_of(run),
        dag_id=run.dag_id,
        dag_run_id=run.dag_run_id,
        trigger_type=TriggerType(run.trigger_type),
        note=run.note,
        task_id=run.task_id,
        dataset_id=run.dataset_id,
        caller_task_ref=run.task_id,
        caller_dataset_ref=run.dataset_id,
    )


def move(run: Run, *, to: RunState, **changes: Unpack[RunChanges]) -> bool:
    """Call `Run.objects.move` and keep `run` itself up to date. Return whether it moved."""
    if not Run.objects.move(run.pk, to=to, **changes):
        return False
    run.state = to
    for name, value in changes.items():
        setattr(run, name, value)
    return True


def changes_of_move(run: Run, *, to: RunState, **changes: Unpack[RunChanges]) -> dict[str, Any]:
    """Return the fields that change when `run` moves, or nothing if the table does not allow it.

    For a caller that has locked and read the run, and saves it together with others.
    """
    return with_state(to, changes) if run.state in ENTERED_FROM[to] else {}


def reopen(run: Run) -> bool:
    """Begin a new attempt of an ended run and keep the facts of the one before. Return whether this was possible."""
    before = RunAttempt(
        run=run,
        number=run.attempt,
        state=run.state,
        state_reason=run.state_reason,
        failed_tasks=sorted(str(task) for task in run.tasks.all() if task.state == "failed"),
        started_at=run.started_at,
        ended_at=run.ended_at,
    )
    fresh: RunChanges = {
        "attempt": run.attempt + 1,
        "state_reason": "",
        "started_at": None,
        "ended_at": None,
        "stop_requested_at": None,
        "end_seen_at": None,
    }
    if not move(run, to=RunState.QUEUED, **fresh):
        return False
    before.save()
    return True


def record_end(run: Run, *, failed_tasks: list[str], now: datetime) -> None:
    """Record that a run has completed or failed."""
    if run.state != RunState.SUCCESS and not run.state_reason:
        run.state_reason = why_failed(failed_tasks)
        run.save(update_fields=["state_reason"])
    events.record(end_of(run, failed_tasks=failed_tasks), now=now, run=run)


def why_failed(failed_tasks: list[str]) -> str:
    return f"failed in Airflow: {', '.join(failed_tasks)}" if failed_tasks else "failed in Airflow"


def end_of(run: Run, *, failed_tasks: list[str], result: events.ResultData | None = None) -> events.EventData:
    """Return the event of a run that has completed, with its result, or failed."""
    duration = run.duration()
    duration_s = duration.total_seconds() if duration else None
    if run.state == RunState.SUCCESS:
        return events.WorkflowCompleted(**events.fields_of(run), duration_s=duration_s, result=result)
    return events.WorkflowFailed(
        **events.fields_of(run), reason=run.state_reason, failed_tasks=failed_tasks, duration_s=duration_s
    )


def finish_stop(run: Run, *, at: datetime, request: StopRequest | None = None) -> bool:
    """Record that a stop is complete. Return whether this call did it.

    Without `request`, the stop is the one that was dispatched last.
    """
    at = not_before_its_tasks(run, at)
    if not move(run, to=RunState.STOPPED, ended_at=at):
        return False
    request = request or _dispatched_stop(run)
    data = events.WorkflowStopped(**events.fields_of(run), by=request.by, note=request.note, reason=run.state_reason)
    events.record(data, now=at, run=run)
    return True


def _dispatched_stop(run: Run) -> StopRequest:
    stop = run.commands.filter(kind=CommandKind.STOP).last()
    return StopRequest(**stop.arguments) if stop else StopRequest()


def not_before_its_tasks(run: Run, at: datetime) -> datetime:
    """Return `at`, or the end of the last task if that is later: Airflow may end a run while a task goes on."""
    last: datetime | None = run.tasks.aggregate(last=Max("ended_at"))["last"]
    return max(at, last or at)
