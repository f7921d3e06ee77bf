"""Who may see the events of a workflow: `Workflow.objects.remembered_by` turned round, for the live hub.

The hub asks once per workflow and not once per client and event. A test holds the two against each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from workflows.models import Grant, Visibility, Workflow


@dataclass(frozen=True, slots=True)
class Audience:
    """Admins belong to every audience; others where `everyone` holds or they are named."""

    everyone: bool
    user_ids: frozenset[int]

    def includes(self, *, user_id: int, is_admin: bool) -> bool:
        return self.everyone or is_admin or user_id in self.user_ids


def load(workflow_ids: Collection[int]) -> dict[int, Audience]:
    """The audience of each of these workflows, as it is now; of a deleted one, its owner."""
    found = Workflow.objects.filter(pk__in=workflow_ids).values_list("pk", "visibility", "owner_id", "deleted_at")
    named: defaultdict[int, set[int]] = defaultdict(set)
    grantees = Grant.objects.filter(workflow__in=workflow_ids).values_list("workflow", "user", "group__user")
    for pk, user_id, member_id in grantees:
        named[pk] |= {user_id, member_id} - {None}
    return {
        pk: Audience(everyone=False, user_ids=frozenset({owner_id}))
        if deleted_at
        else Audience(everyone=visibility == Visibility.INTERNAL, user_ids=frozenset({owner_id, *named[pk]}))
        for pk, visibility, owner_id, deleted_at in found
    }
