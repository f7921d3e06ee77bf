"""Runs: triggered, stopped, retried."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from django.core.serializers.json import DjangoJSONEncoder
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import audit
from svops.errors import InvalidInputError
from workflows import events, freezing, handover, observe, parameters, receipt, upstream
from workflows.access import require_runner
from workflows.models import CommandKind, IdempotencyKey, Run, TaskInstance, TriggerType, Workflow
from workflows.services.errors import KeyReusedError, WorkflowInactiveError, WrongStateError
from workflows.states import TERMINAL, RunState

if TYPE_CHECKING:
    from accounts.models import User

RETRY_MODES = ("failed", "all", "from_task")


class Triggered(NamedTuple):
    """`replayed` tells that the run is that of an earlier request with the same key."""

    run: Run
    replayed: bool


def trigger_run(*, workflow: Workflow, user: User, trigger_type: TriggerType, **wanted: Any) -> Run:
    """`trigger_once` for a caller that has no key."""
    return trigger_once(workflow=workflow, user=user, trigger_type=trigger_type, **wanted).run


def trigger_once(
    *,
    workflow: Workflow,
    user: User,
    trigger_type: TriggerType,
    given: Mapping[str, Any],
    task_id: int | str | None = None,
    dataset_id: int | str | None = None,
    note: str = "",
    run_at: datetime | None = None,
    key: str = "",
) -> Triggered:
    """Accept a run and hand it over to Airflow: at once if it answers, else when it does again, or at `run_at`.

    Raises `NotAllowedError` for a user who may only look, `InvalidInputError` with a message per parameter,
    `WorkflowInactiveError` when it can not run at all, `KeyReusedError` when `key` was used for something else.
    """
    require_runner(workflow, user)
    wanted = {"given": given, "task_id": task_id, "dataset_id": dataset_id, "note": note, "run_at": run_at}
    fingerprint = _fingerprint(workflow, wanted)
    if key and (earlier := _earlier(user, key, fingerprint)):
        return Triggered(earlier, replayed=True)
    _require_triggerable(workflow)
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
        parameters=validate_parameters(workflow=workflow, given=given),
        note=note,
        run_at=run_at,
    )
    try:
        _accept_and_owe(run, user, now=timezone.now(), key=key, fingerprint=fingerprint)
    except IntegrityError:
        # Another request with this key has committed since we looked.
        if key and (earlier := _earlier(user, key, fingerprint)):
            return Triggered(earlier, replayed=True)
        raise
    return Triggered(handed_over(run), replayed=False)


def _fingerprint(workflow: Workflow, wanted: Mapping[str, Any]) -> str:
    canonical = json.dumps([workflow.pk, wanted], cls=DjangoJSONEncoder, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _earlier(user: User, key: str, fingerprint: str) -> Run | None:
    """The run that this key has made. There is no "in flight": key and run commit together."""
    used = IdempotencyKey.objects.select_related("run__workflow", "run__user").filter(user=user, key=key).first()
    if used is None:
        return None
    if used.fingerprint != fingerprint:
        raise KeyReusedError("This Idempotency-Key belongs to another request; use a new one for each.")
    return used.run


def validate_parameters(*, workflow: Workflow, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters a run would have: `given` over the workflow's defaults, checked against the DAG's schema."""
    return parameters.merge(given=given, defaults=workflow.default_parameters, schema=workflow.dag.params_schema)


def why_not_triggerable(workflow: Workflow) -> str:
    """Why no run of this workflow may begin, or begin again; empty when one may."""
    if workflow.deleted_at:
        return "The workflow was deleted."
    if not workflow.is_active:
        return "The workflow is not active: set is_active to true first."
    if not workflow.dag.is_present:
        return f"Airflow does not have the DAG {workflow.dag.dag_id} any more."
    return ""


def _require_triggerable(workflow: Workflow) -> None:
    if hindrance := why_not_triggerable(workflow):
        raise WorkflowInactiveError(hindrance)


@transaction.atomic
def _accept_and_owe(run: Run, user: User, *, now: datetime, key: str, fingerprint: str) -> None:
    accept(run, now=now)
    if key:
        IdempotencyKey.objects.create(user=user, key=key, fingerprint=fingerprint, run=run, created_at=now)
    facts = audit.facts_of(run, ("workflow_id", "task_id", "dataset_id", "note", "run_at"))
    audit.record("run.triggered", run, after=facts, actor=user)
    handover.owe(CommandKind.TRIGGER, run=run, now=now, due_at=run.run_at)


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
    require_runner(run.workflow, actor)
    _stop(run, actor, note=note, now=timezone.now())
    return handed_over(run)


@transaction.atomic
def _stop(run: Run, actor: User, *, note: str, now: datetime) -> None:
    run = Run.objects.select_for_update().get(pk=run.pk)
    reason = f"stopped by {actor.get_username()}" + (f": {note}" if note else "")
    audit.record("run.stopped", run, before={"state": run.state}, after={"note": note}, actor=actor)
    if handover.withdraw_trigger(run, now=now):
        run.state_reason = reason
        run.save(update_fields=["state_reason"])
        observe.finish_stop(run, at=now)
        return
    if not observe.move(run, to=RunState.STOPPING, stop_requested_at=now, state_reason=reason):
        raise WrongStateError(run, "stopped")
    # A held trigger that may have arrived before it was held would keep the stop waiting behind it.
    handover.hold_trigger(run, held=False, now=now)
    receipt.waive(run, now=now)
    handover.owe(CommandKind.STOP, run=run, now=now)


def retry_run(*, run: Run, actor: User, mode: str = "failed", task_id: str | None = None, note: str = "") -> Run:
    """Run tasks of an ended run again: the `failed` ones and what follows them, `all`, or `from_task` on.

    Raises `WrongStateError` while the run is open, `WorkflowInactiveError` when its workflow can not run at all,
    `InvalidInputError` for a task that it does not have.
    """
    require_runner(run.workflow, actor)
    _check_retry(run, mode=mode, task_id=task_id)
    _retry(run, actor, mode=mode, task_id=task_id, note=note, now=timezone.now())
    return handed_over(run)


def preview_retry(*, run: Run, mode: str = "failed", task_id: str | None = None) -> list[tuple[str, int]]:
    """The (task_id, map_index) that a retry would run again, as Airflow says; changes nothing."""
    _check_retry(run, mode=mode, task_id=task_id)
    with upstream.translated(), upstream.watched() as client:
        return handover.clear(client, run, _tasks_of_retry(run, mode=mode, task_id=task_id), dry_run=True)


def _check_retry(run: Run, *, mode: str, task_id: str | None) -> None:
    if run.state not in TERMINAL:
        raise WrongStateError(run, "retried")
    if run.queued_at is None:
        raise WrongStateError(run, "retried because Airflow never had it")
    if mode == "failed" and run.state == RunState.SUCCESS:
        raise WrongStateError(run, "retried with mode failed: nothing has failed")
    _require_triggerable(run.workflow)
    if mode != "from_task" and task_id is not None:
        raise InvalidInputError({"from_task": ["Goes with mode from_task."]})
    if mode == "from_task" and not TaskInstance.objects.filter(run=run, task_id=task_id or "").exists():
        known = ", ".join(run.tasks.values_list("task_id", flat=True).distinct().order_by("task_id"))
        raise InvalidInputError({"from_task": [f"The run has no task {task_id!r}; it has: {known}."]})


def _tasks_of_retry(run: Run, *, mode: str, task_id: str | None) -> dict[str, Any]:
    """What Airflow has to clear, as arguments of its clear.

    A stop leaves tasks that never began as skipped, which is no failure to Airflow: of a stopped run, whatever
    has not succeeded runs again.
    """
    if mode == "from_task":
        return {"task_ids": [task_id], "only_failed": False, "include_downstream": True}
    if mode == "failed" and run.state == RunState.STOPPED:
        unfinished = run.tasks.exclude(state="success").order_by("task_id").values_list("task_id", flat=True)
        return {"task_ids": list(unfinished.distinct()), "only_failed": False, "include_downstream": False}
    return {"task_ids": None, "only_failed": mode == "failed", "include_downstream": False}


@transaction.atomic
def _retry(run: Run, actor: User, *, mode: str, task_id: str | None, note: str, now: datetime) -> None:
    run = Run.objects.select_for_update().get(pk=run.pk)
    tasks = _tasks_of_retry(run, mode=mode, task_id=task_id)
    if run.state not in TERMINAL or not observe.reopen(run):
        raise WrongStateError(run, "retried")
    by = actor.get_username()
    data = events.WorkflowRetried(state=run.state, attempt=run.attempt, mode=mode, note=note, by=by)
    events.record(data, now=now, run=run)
    freezing.freeze_if_dag_paused(run, now=now)
    audit.record("run.retried", run, after={"mode": mode, "task_id": task_id, "note": note}, actor=actor)
    handover.owe(CommandKind.CLEAR, run=run, now=now, **tasks)


def handed_over(run: Run) -> Run:
    """After the commit: carry out what is owed, with a short budget, and read what has become of the run."""
    handover.try_now(run=run)
    return Run.objects.select_related("workflow__dag", "user").get(pk=run.pk)
