"""The write path: each function is one change, in one transaction, with its event. Every edge comes through here."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from svops.errors import ConflictError, InvalidInputError, NotAllowedError
from workflows import events, handover, observe, outbox, parameters, upstream
from workflows.models import (
    CommandKind,
    Dag,
    Run,
    TaskInstance,
    TriggerType,
    Workflow,
)
from workflows.states import TERMINAL, RunState

if TYPE_CHECKING:
    from accounts.models import User

RETRY_MODES = ("failed", "all", "from_task")


class WrongStateError(ConflictError):
    """The action does not fit the state that the run is in; nothing was changed."""

    code = "wrong_state"

    def __init__(self, run: Run, action: str) -> None:
        super().__init__(
            f"A run that is {run.state} can not be {action}.",
            extra={"state": run.state, "run_id": str(run.pk)},
        )


class WorkflowInactiveError(ConflictError):
    """The workflow or its DAG can not be triggered now."""

    code = "workflow_inactive"


class ActiveRunsError(ConflictError):
    """The workflow has runs that have not ended."""

    code = "active_runs"


# --- Workflows --------------------------------------------------------------------------------------------


def create_workflow(*, owner: User, dag: Dag, name: str, **fields: Any) -> Workflow:
    """Raises `InvalidInputError` for defaults that do not fit the DAG, or a name that the owner already uses."""
    parameters.check_defaults(defaults=fields.get("default_parameters", {}), schema=dag.params_schema)
    return _save_unique(Workflow(owner=owner, dag=dag, name=name, **fields))


def update_workflow(*, workflow: Workflow, actor: User, **changes: Any) -> Workflow:
    """Raises as `create_workflow`, and `NotAllowedError` for somebody else's workflow."""
    _require_manager(workflow, actor)
    for name, value in changes.items():
        setattr(workflow, name, value)
    parameters.check_defaults(defaults=workflow.default_parameters, schema=workflow.dag.params_schema)
    return _save_unique(workflow)


@transaction.atomic
def delete_workflow(*, workflow: Workflow, actor: User) -> None:
    """Hide the workflow for good; its runs and their events are kept. Refused while runs are open."""
    _require_manager(workflow, actor)
    Workflow.objects.select_for_update().get(pk=workflow.pk)
    if active := workflow.runs.open().count():
        raise ActiveRunsError(f"{active} of its runs have not ended: stop them first.", extra={"active_runs": active})
    workflow.deleted_at = timezone.now()
    workflow.save(update_fields=["deleted_at"])
    transaction.on_commit(outbox.wake_access, robust=True)


def may_manage(workflow: Workflow, user: User) -> bool:
    return user.is_superuser or workflow.owner_id == user.pk


def _require_manager(workflow: Workflow, actor: User) -> None:
    if not may_manage(workflow, actor):
        raise NotAllowedError("Only the owner of a workflow and admins may change it.")


def _save_unique(workflow: Workflow) -> Workflow:
    try:
        with transaction.atomic():
            workflow.save()
            transaction.on_commit(outbox.wake_access, robust=True)
    except IntegrityError as exc:
        raise InvalidInputError({"name": ["You already have a workflow of this name."]}) from exc
    return workflow


# --- Runs -------------------------------------------------------------------------------------------------


def trigger_run(
    *,
    workflow: Workflow,
    user: User,
    trigger_type: TriggerType,
    given: Mapping[str, Any],
    task_id: int | str | None = None,
    dataset_id: int | str | None = None,
    note: str = "",
) -> Run:
    """Accept a run and hand it over to Airflow, at once if Airflow answers, else when it does again.

    Raises `InvalidInputError` with a message per parameter, `WorkflowInactiveError` when it can not run at all.
    """
    _require_triggerable(workflow)
    merged = validate_parameters(workflow=workflow, given=given)
    run_id = uuid.uuid4()
    run = Run(
        id=run_id,
        workflow=workflow,
        dag_id=workflow.dag.dag_id,
        dag_run_id=f"svops__{run_id}",
        trigger_type=trigger_type,
        user=user,
        task_id=task_id,
        dataset_id=dataset_id,
        parameters=merged,
        note=note,
    )
    _accept_and_owe(run, now=timezone.now())
    return _handed_over(run)


def validate_parameters(*, workflow: Workflow, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters a run would have: `given` over the workflow's defaults, checked against the DAG's schema."""
    return parameters.merge(given=given, defaults=workflow.default_parameters, schema=workflow.dag.params_schema)


def _require_triggerable(workflow: Workflow) -> None:
    if not workflow.is_active:
        raise WorkflowInactiveError("The workflow is not active: set is_active to true first.")
    if not workflow.dag.is_present:
        raise WorkflowInactiveError(f"Airflow does not have the DAG {workflow.dag.dag_id} any more.")


@transaction.atomic
def _accept_and_owe(run: Run, *, now: datetime) -> None:
    accept(run, now=now)
    handover.owe(run, CommandKind.TRIGGER, now=now)


@transaction.atomic
def accept(run: Run, *, now: datetime) -> None:
    """Store a new run with its first event; whether Airflow has to be told is the caller's business."""
    run.created_at = now
    run.save(force_insert=True)
    data = events.WorkflowTriggered(
        state=run.state,
        attempt=run.attempt,
        dag_id=run.dag_id,
        dag_run_id=run.dag_run_id,
        trigger_type=run.trigger_type,
        note=run.note,
        task_id=run.task_id,
        dataset_id=run.dataset_id,
    )
    events.record(data, now=now, run=run)


def stop_run(*, run: Run, actor: User, note: str = "") -> Run:
    """Ask for the run to end: `stopping` at once, `stopped` when every task instance is over.

    A run that Airflow was never asked to start is `stopped` at once. Raises `WrongStateError` when it has ended
    or is stopping already.
    """
    _stop(run, actor, note=note, now=timezone.now())
    return _handed_over(run)


@transaction.atomic
def _stop(run: Run, actor: User, *, note: str, now: datetime) -> None:
    run = Run.objects.select_for_update().get(pk=run.pk)
    reason = f"stopped by {actor.get_username()}" + (f": {note}" if note else "")
    if _withdraw_trigger(run, now=now):
        run.state_reason = reason
        run.save(update_fields=["state_reason"])
        observe.finish_stop(run, at=now)
        return
    if not observe.move(run, to=RunState.STOPPING, stop_requested_at=now, state_reason=reason):
        raise WrongStateError(run, "stopped")
    handover.owe(run, CommandKind.STOP, now=now)


def _withdraw_trigger(run: Run, *, now: datetime) -> bool:
    """Take back a trigger that nobody has begun to carry out."""
    untouched = run.commands.filter(kind=CommandKind.TRIGGER, attempts=0, finished_at__isnull=True)
    return untouched.update(finished_at=now, last_error="withdrawn: the run was stopped") == 1


def retry_run(*, run: Run, actor: User, mode: str = "failed", task_id: str | None = None, note: str = "") -> Run:
    """Run tasks of an ended run again: the `failed` ones and what follows them, `all`, or `from_task` on.

    Raises `WrongStateError` while the run is open, `InvalidInputError` for a task that it does not have.
    """
    _check_retry(run, mode=mode, task_id=task_id)
    _retry(run, actor, mode=mode, task_id=task_id, note=note, now=timezone.now())
    return _handed_over(run)


def preview_retry(*, run: Run, mode: str = "failed", task_id: str | None = None) -> list[tuple[str, int]]:
    """The (task_id, map_index) that a retry would run again, as Airflow says; changes nothing."""
    _check_retry(run, mode=mode, task_id=task_id)
    with upstream.translated(), upstream.watched() as client:
        return handover.clear(client, run, mode=mode, task_id=task_id, dry_run=True)


def _check_retry(run: Run, *, mode: str, task_id: str | None) -> None:
    if run.state not in TERMINAL:
        raise WrongStateError(run, "retried")
    if run.queued_at is None:
        raise WrongStateError(run, "retried because Airflow never had it")
    if mode == "from_task" and not TaskInstance.objects.filter(run=run, task_id=task_id or "").exists():
        known = ", ".join(run.tasks.values_list("task_id", flat=True).distinct().order_by("task_id"))
        raise InvalidInputError({"from_task": [f"The run has no task {task_id!r}; it has: {known}."]})
    if mode == "failed" and run.state == RunState.SUCCESS:
        raise WrongStateError(run, "retried with mode failed: nothing has failed")


@transaction.atomic
def _retry(run: Run, actor: User, *, mode: str, task_id: str | None, note: str, now: datetime) -> None:
    run = Run.objects.select_for_update().get(pk=run.pk)
    reopened = {"attempt": run.attempt + 1, "ended_at": None, "state_reason": "", "stop_requested_at": None}
    if run.state not in TERMINAL or not observe.move(run, to=RunState.QUEUED, **reopened):
        raise WrongStateError(run, "retried")
    by = actor.get_username()
    data = events.WorkflowRetried(state=run.state, attempt=run.attempt, mode=mode, note=note, by=by)
    events.record(data, now=now, run=run)
    handover.owe(run, CommandKind.CLEAR, now=now, mode=mode, task_id=task_id)


def _handed_over(run: Run) -> Run:
    """After the commit: carry out what is owed, with a short budget, and read what has become of the run."""
    handover.try_now(run)
    return Run.objects.select_related("workflow", "user").get(pk=run.pk)
