"""Who else may see, run or manage a workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from django.db import transaction

from accounts import audit
from svops.errors import InvalidInputError
from workflows import outbox
from workflows.access import require_manager
from workflows.models import Grant, Level, Workflow

if TYPE_CHECKING:
    from django.contrib.auth.models import Group

    from accounts.models import User


class Granted(NamedTuple):
    """`created` tells it from a grant whose level was changed."""

    grant: Grant
    created: bool


@transaction.atomic
def grant(
    *, workflow: Workflow, actor: User, level: Level, user: User | None = None, group: Group | None = None
) -> Granted:
    """Let a user or a group have this level, in place of one that they have. Streams follow at once."""
    require_manager(workflow, actor)
    if (user is None) == (group is None):
        raise InvalidInputError({"user": ["Expected either a user or a group."]})
    # Who grants takes turns on the workflow: two that grant the same would both find nothing there.
    Workflow.objects.select_for_update().get(pk=workflow.pk)
    given = Granted(
        *Grant.objects.update_or_create(workflow=workflow, user=user, group=group, defaults={"level": level})
    )
    facts = {"user": user and user.username, "group": group and group.name, "level": level}
    audit.record("workflow.granted", workflow, after=facts, actor=actor)
    transaction.on_commit(outbox.wake_access, robust=True)
    return given


@transaction.atomic
def revoke(*, grant: Grant, actor: User) -> None:
    """Take a grant back; streams of those who lose sight of the workflow end with it."""
    require_manager(grant.workflow, actor)
    facts = {"user": grant.user and grant.user.username, "group": grant.group and grant.group.name}
    audit.record("workflow.revoked", grant.workflow, before={**facts, "level": grant.level}, actor=actor)
    grant.delete()
    transaction.on_commit(outbox.wake_access, robust=True)
