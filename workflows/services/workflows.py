"""Create, change and delete workflows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import audit
from accounts.models import UNBOUNDED
from rest.errors import FieldNotAllowedError, InvalidInputError, NotAllowedError
from workflows import parameters
from workflows.access import require_builder, require_manager
from workflows.eventlog import publication
from workflows.models import Dag, Visibility, Workflow
from workflows.services.errors import ActiveRunsError

if TYPE_CHECKING:
    from accounts.models import User


FACTS = (
    "name", "description", "dag_id", "owner_id", "is_active", "visibility", "adopts_airflow_runs",
    "default_parameters", "result_task",
)  # fmt: skip


class WorkflowFields(TypedDict, total=False):
    """Optional fields of a new workflow."""

    description: str
    is_active: bool
    visibility: Visibility
    adopts_airflow_runs: bool
    default_parameters: dict[str, Any]
    result_task: str


class WorkflowChanges(WorkflowFields, total=False):
    """The fields of a workflow that may be changed."""

    name: str
    dag: Dag
    owner: User


def create_workflow(
    *, owner: User, dag: Dag, name: str, actor: User | None = None, **fields: Unpack[WorkflowFields]
) -> Workflow:
    """Create a workflow. `actor` creates it; the owner by default.

    Raises `InvalidInputError` for defaults or a result task that do not fit the DAG, or a name that the owner already
    uses, and `NotAllowedError` if no rule opens the DAG to the owner, or the actor may not choose it to adopt Airflow's
    runs.
    """
    if owner.bounds != UNBOUNDED:
        raise NotAllowedError("This API key is limited to certain workflows; it cannot create others.")
    require_builder(dag, owner)
    parameters.check_defaults(defaults=fields.get("default_parameters", {}), schema=dag.params_schema)
    workflow = Workflow(owner=owner, dag=dag, name=name, **fields)
    _check_result_task(workflow)
    if workflow.adopts_airflow_runs:
        _require_free_choice(workflow, actor or owner)
    return _save_unique(workflow, actor=actor or owner, before=None)


def update_workflow(*, workflow: Workflow, actor: User, **changes: Unpack[WorkflowChanges]) -> Workflow:
    """Change the given fields. Raises as `create_workflow` does, and `NotAllowedError` without the right.

    A workflow that gets another DAG adopts its runs only if the change says so.
    """
    require_manager(workflow, actor)
    before = _facts(workflow)
    of_another_dag = "dag" in changes and changes["dag"].pk != workflow.dag_id
    if of_another_dag:
        changes.setdefault("adopts_airflow_runs", False)
    for name, value in changes.items():
        setattr(workflow, name, value)
    _require_builders(workflow, actor, before)
    if workflow.adopts_airflow_runs and (of_another_dag or not before["adopts_airflow_runs"]):
        _require_free_choice(workflow, actor)
    parameters.check_defaults(defaults=workflow.default_parameters, schema=workflow.dag.params_schema)
    if of_another_dag or workflow.result_task != before["result_task"]:
        _check_result_task(workflow)
    return _save_unique(workflow, actor=actor, before=before, update_fields=[*changes, "updated_at"])


def _check_result_task(workflow: Workflow) -> None:
    """Raise `InvalidInputError` if the DAG has no such task. A task that a DAG loses later is not checked again."""
    known = [task["task_id"] for task in workflow.dag.tasks]
    if workflow.result_task and workflow.result_task not in known:
        has = f"It has: {', '.join(sorted(known)[:20])}." if known else "None of its tasks is known yet."
        message = f"The DAG {workflow.dag.dag_id} has no task {workflow.result_task}. {has}"
        raise InvalidInputError({"result_task": [message]})


def _require_free_choice(workflow: Workflow, actor: User) -> None:
    """Check that the actor may choose the workflow to adopt Airflow's runs, and that no other one is chosen.

    Its audience then sees runs, and their parameters, that nobody has started through it. So only admins choose.
    """
    if not actor.is_superuser or actor.bounds != UNBOUNDED:
        raise FieldNotAllowedError(
            "adopts_airflow_runs", "Only an admin can choose the workflow that adopts the runs started in Airflow."
        )
    _require_only_adopter(workflow)


def _require_only_adopter(workflow: Workflow) -> None:
    chosen = Workflow.objects.alive().filter(dag=workflow.dag, adopts_airflow_runs=True).exclude(pk=workflow.pk)
    if other := chosen.first():
        message = f"The workflow {other.name} ({other.pk}) adopts the runs of this DAG. Set it to false there first."
        raise InvalidInputError({"adopts_airflow_runs": [message]})


def _require_builders(workflow: Workflow, actor: User, before: Mapping[str, object]) -> None:
    """Raise `NotAllowedError` for a change that builds on a DAG that is not open to the owner.

    Another DAG must be open to the actor too: somebody with a `manage` grant must not use the owner's rule for it.
    What closes the workflow down stays possible without a rule: a name, a description, a visibility, no more runs.
    """
    changed = {name for name in FACTS if before[name] != getattr(workflow, name)}
    if "dag_id" in changed:
        require_builder(workflow.dag, actor)
    if changed & {"dag_id", "owner_id", "default_parameters"} or ("is_active" in changed and workflow.is_active):
        require_builder(workflow.dag, workflow.owner)


@transaction.atomic
def delete_workflow(*, workflow: Workflow, actor: User) -> None:
    """Hide the workflow for good. Its runs and their events are kept. Refused while runs are open."""
    require_manager(workflow, actor)
    Workflow.objects.select_for_update().get(pk=workflow.pk)
    if active := workflow.runs.open().count():
        raise ActiveRunsError(f"{active} of its runs have not ended: stop them first.", extra={"active_runs": active})
    workflow.deleted_at = timezone.now()
    workflow.save(update_fields=["deleted_at"])
    audit.record("workflow.deleted", workflow, before=_facts(workflow), actor=actor)
    transaction.on_commit(publication.send_rights_changed, robust=True)


def _save_unique(
    workflow: Workflow, *, actor: User, before: dict[str, Any] | None, update_fields: list[str] | None = None
) -> Workflow:
    try:
        with transaction.atomic():
            workflow.save(update_fields=update_fields)
            _record(workflow, actor=actor, before=before)
            transaction.on_commit(publication.send_rights_changed, robust=True)
    except IntegrityError as exc:
        if workflow.adopts_airflow_runs:
            _require_only_adopter(workflow)
        raise InvalidInputError({"name": ["You already have a workflow with this name."]}) from exc
    return workflow


def _facts(workflow: Workflow) -> dict[str, object]:
    return {**audit.facts_of(workflow, FACTS), "airflow": workflow.dag.airflow_name}


def _record(workflow: Workflow, *, actor: User, before: dict[str, Any] | None) -> None:
    after = _facts(workflow)
    if before is None:
        audit.record("workflow.created", workflow, after=after, actor=actor)
        return
    old, new = audit.changes(before, after)
    audit.record("workflow.changed", workflow, before=old, after=new, actor=actor)
