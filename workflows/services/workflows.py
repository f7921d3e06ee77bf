"""Workflows: made, changed, deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import audit
from accounts.models import UNBOUNDED
from svops.errors import InvalidInputError, NotAllowedError
from workflows import outbox, parameters
from workflows.access import require_manager
from workflows.models import Dag, Workflow
from workflows.services.errors import ActiveRunsError

if TYPE_CHECKING:
    from accounts.models import User


FACTS = ("name", "description", "dag_id", "owner_id", "is_active", "visibility", "default_parameters")


def create_workflow(*, owner: User, dag: Dag, name: str, **fields: Any) -> Workflow:
    """Raises `InvalidInputError` for defaults that do not fit the DAG, or a name that the owner already uses."""
    if owner.bounds != UNBOUNDED:
        raise NotAllowedError("This API key is for certain workflows alone; it makes no others.")
    parameters.check_defaults(defaults=fields.get("default_parameters", {}), schema=dag.params_schema)
    return _save_unique(Workflow(owner=owner, dag=dag, name=name, **fields), actor=owner, before=None)


def update_workflow(*, workflow: Workflow, actor: User, **changes: Any) -> Workflow:
    """Raises as `create_workflow`, and `NotAllowedError` for somebody else's workflow."""
    require_manager(workflow, actor)
    before = audit.facts_of(workflow, FACTS)
    for name, value in changes.items():
        setattr(workflow, name, value)
    parameters.check_defaults(defaults=workflow.default_parameters, schema=workflow.dag.params_schema)
    return _save_unique(workflow, actor=actor, before=before, update_fields=[*changes, "updated_at"])


@transaction.atomic
def delete_workflow(*, workflow: Workflow, actor: User) -> None:
    """Hide the workflow for good; its runs and their events are kept. Refused while runs are open."""
    require_manager(workflow, actor)
    Workflow.objects.select_for_update().get(pk=workflow.pk)
    if active := workflow.runs.open().count():
        raise ActiveRunsError(f"{active} of its runs have not ended: stop them first.", extra={"active_runs": active})
    workflow.deleted_at = timezone.now()
    workflow.save(update_fields=["deleted_at"])
    audit.record("workflow.deleted", workflow, before=audit.facts_of(workflow, FACTS), actor=actor)
    transaction.on_commit(outbox.wake_access, robust=True)


def _save_unique(
    workflow: Workflow, *, actor: User, before: dict[str, Any] | None, update_fields: list[str] | None = None
) -> Workflow:
    try:
        with transaction.atomic():
            workflow.save(update_fields=update_fields)
            _record(workflow, actor=actor, before=before)
            transaction.on_commit(outbox.wake_access, robust=True)
    except IntegrityError as exc:
        raise InvalidInputError({"name": ["You already have a workflow of this name."]}) from exc
    return workflow


def _record(workflow: Workflow, *, actor: User, before: dict[str, Any] | None) -> None:
    after = audit.facts_of(workflow, FACTS)
    if before is None:
        audit.record("workflow.created", workflow, after=after, actor=actor)
        return
    old, new = audit.changes(before, after)
    audit.record("workflow.changed", workflow, before=old, after=new, actor=actor)
