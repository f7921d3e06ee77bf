"""What somebody may do with a workflow that they see; `Workflow.objects.visible_to` says what they see.

The role's scopes are asked for at the edges; this is the other half, and the services ask it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from svops.errors import NotAllowedError
from workflows.models import Grant, Level, Visibility, Workflow

if TYPE_CHECKING:
    from accounts.models import User


def may_run(workflow: Workflow, user: User) -> bool:
    """Whether the user may trigger it and control its runs."""
    return workflow.visibility == Visibility.INTERNAL or _holds(workflow, user, Level.RUN, Level.MANAGE)


def may_manage(workflow: Workflow, user: User) -> bool:
    """Whether the user may change it, delete it, and say who else may."""
    return _holds(workflow, user, Level.MANAGE)


def require_runner(workflow: Workflow, user: User) -> None:
    if not may_run(workflow, user):
        raise NotAllowedError("You may only look at this workflow; its owner can grant you run.")


def require_manager(workflow: Workflow, user: User) -> None:
    if not may_manage(workflow, user):
        raise NotAllowedError("Only the owner of a workflow, admins and those granted manage may change it.")


def unseen(user: User | None, workflow_ids: Collection[int]) -> set[int]:
    """Those of the ids that belong to no workflow which is there for the user; for None, to none at all."""
    there = Workflow.objects.alive() if user is None else Workflow.objects.visible_to(user)
    return set(workflow_ids) - set(there.filter(pk__in=workflow_ids).values_list("pk", flat=True))


def _holds(workflow: Workflow, user: User, *levels: Level) -> bool:
    if user.is_superuser or workflow.owner_id == user.pk:
        return True
    return Grant.objects.held_by(user).filter(workflow=workflow, level__in=levels).exists()
