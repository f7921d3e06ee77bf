"""Who else may see, run or manage a workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from django.db import transaction

from accounts import audit
from rest.errors import InvalidInputError
from workflows.access import require_manager
from workflows.eventlog import publication
from workflows.models import Grant, Level, Workflow

if TYPE_CHECKING:
    from django.contrib.auth.models import Group

    from accounts.models import User


class Granted(NamedTuple):
    """`created` is false when the level of an existing grant was changed."""

    grant: Grant
    created: bool


@transaction.atomic
def grant(
    *, workflow: Workflow, actor: User, level: Level, user: User | None = None, group: Group | None = None
) -> Granted:
    """Grant this level to a user or a group, in place of the level they have. Streams follow at once."""
    require_manager(workflow, actor)
    if (user is None) == (group is None):
        raise InvalidInputError({"user": ["Expected either a user or a group."]})
    # Grants on one workflow take turns: otherwise two of the same would both find no row to change.
    Workflow.objects.select_for_update().get(pk=workflow.pk)
    before = Grant.objects.filter(workflow=workflow, user=user, group=group).first()
    given = Granted(
        *Grant.objects.update_or_create(workflow=workflow, user=user, group=group, defaults={"level": level})
    )
    holder = {"user": user and user.username, "group": group and group.name}
    audit.record(
        "workflow.granted",
        workflow,
        before={**holder, "level": before.level} if before else None,
        after={**holder, "level": level},
        actor=actor,
    )
    transaction.on_commit(publication.send_rights_changed, robust=True)
    return given


@transaction.atomic
def revoke(*, grant: Grant, actor: User) -> None:
    """Revoke a grant. The streams of users who can no longer see the workflow end."""
    require_manager(grant.workflow, actor)
    facts = {"user": grant.user and grant.user.username, "group": grant.group and grant.group.name}
    audit.record("workflow.revoked", grant.workflow, before={**facts, "level": grant.level}, actor=actor)
    grant.delete()
    transaction.on_commit(publication.send_rights_changed, robust=True)
