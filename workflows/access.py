"""What a user may do with a workflow or a DAG that they can see. `visible_to` of both decides what they can see.

The edges check the scopes of the user's role. The services check the rights here.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import TYPE_CHECKING

from django.db.models import Q

from accounts.models import UNBOUNDED
from rest.errors import FieldNotAllowedError, NotAllowedError
from workflows import dagrules
from workflows.dagrules import DagLevel, DagRule
from workflows.models import Dag, Grant, Level, Run, Visibility, Workflow

if TYPE_CHECKING:
    from accounts.models import User


def may_run(workflow: Workflow, user: User) -> bool:
    """Return whether the user may trigger the workflow and control its runs."""
    return workflow.visibility == Visibility.INTERNAL or _holds(workflow, user, Level.RUN, Level.MANAGE)


def may_manage(workflow: Workflow, user: User) -> bool:
    """Return whether the user may change the workflow, delete it, and grant access to it."""
    return _holds(workflow, user, Level.MANAGE)


def require_runner(workflow: Workflow, user: User) -> None:
    if not may_run(workflow, user):
        raise NotAllowedError("You may only view this workflow; its owner can grant you run.")


def require_manager(workflow: Workflow, user: User) -> None:
    if not may_manage(workflow, user):
        raise NotAllowedError("Only the owner of a workflow, admins and users granted manage may change it.")


class DagRights:
    """What a user may do with DAGs. The rules are read once, for as many DAGs as are asked about."""

    def __init__(self, user: User) -> None:
        self.user = user

    def may_build(self, dag: Dag) -> bool:
        """Return whether the user may own a workflow over the DAG."""
        return self.user.is_superuser or dagrules.is_open() or self._is_opened(dag, DagLevel.BUILD)

    def may_read_error(self, dag: Dag) -> bool:
        """Return whether the user may read why Airflow cannot import the DAG's file."""
        return dag.pk in self._errors_readable

    def _is_opened(self, dag: Dag, level: DagLevel) -> bool:
        return any(rule.allows(level) and rule.opens(dag.airflow_name, dag.dag_id, dag.tags) for rule in self._rules)

    @cached_property
    def _errors_readable(self) -> set[int]:
        return set(Dag.objects.exclude(import_error="").errors_readable_by(self.user).values_list("pk", flat=True))

    @cached_property
    def _rules(self) -> list[DagRule]:
        return list(DagRule.objects.held_by(self.user))


def may_build(dag: Dag, user: User) -> bool:
    """Return whether the user may own a workflow over the DAG."""
    return DagRights(user).may_build(dag)


def require_builder(dag: Dag, user: User) -> None:
    if not may_build(dag, user):
        raise FieldNotAllowedError(
            "dag_id", f"No rule lets {user.get_username()} build on the DAG {dag.dag_id}; an admin can add one."
        )


def why_dag_is_closed(workflow: Workflow, dag: Dag | None = None, *, owners_rights: DagRights | None = None) -> str:
    """Return why the workflow may not use its DAG, or the given one, any more; empty if it may.

    The rule must hold for the workflow's owner, also if somebody else triggers it. `owners_rights` saves a query for
    many workflows of one owner.
    """
    dag = dag or workflow.dag
    if dagrules.is_open() or (owners_rights or DagRights(workflow.owner)).may_build(dag):
        return ""
    return (
        f"No rule lets its owner {workflow.owner.get_username()} build on the DAG {dag.dag_id} any more; "
        "an admin can add one."
    )


def require_dag_runner(dag: Dag, user: User) -> None:
    """Raise `NotAllowedError` unless the user may run every workflow on the DAG, within the caller's credentials.

    Pausing a DAG freezes all of them, also those that the user cannot see.
    """
    if user.is_superuser and user.bounds == UNBOUNDED:
        return
    with_open_runs = Run.objects.open().of_dag(dag).values("workflow")
    concerned = Workflow.objects.filter(Q(dag=dag, deleted_at__isnull=True) | Q(pk__in=with_open_runs))
    granted = Grant.objects.held_by(user).filter(level__in=(Level.RUN, Level.MANAGE)).values("workflow")
    runnable = Workflow.objects.visible_to(user)
    if not user.is_superuser:
        runnable = runnable.filter(Q(owner=user) | Q(visibility=Visibility.INTERNAL) | Q(pk__in=granted))
    if concerned.exclude(pk__in=runnable.values("pk")).exists():
        raise NotAllowedError(
            "This pauses or resumes a whole DAG. You must be allowed to run every workflow on it; an admin can do it."
        )


def unseen(user: User | None, workflow_ids: Collection[int]) -> set[int]:
    """Return the ids of no workflow that the user can see. For None: the ids of no workflow at all."""
    known = Workflow.objects.alive() if user is None else Workflow.objects.visible_to(user)
    return set(workflow_ids) - set(known.filter(pk__in=workflow_ids).values_list("pk", flat=True))


def _holds(workflow: Workflow, user: User, *levels: Level) -> bool:
    if user.is_superuser or workflow.owner_id == user.pk:
        return True
    return Grant.objects.held_by(user).filter(workflow=workflow, level__in=levels).exists()
