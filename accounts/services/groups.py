"""Groups, which share grants on workflows, and who is in them."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from django.contrib.auth.models import Group
from django.db import transaction

from accounts import audit
from accounts.models import User
from accounts.names import is_alike
from rest.errors import InvalidInputError

logger = logging.getLogger(__name__)


@transaction.atomic
def save_group(*, group: Group, name: str, members: Iterable[User]) -> Group:
    """Create the group if it is new, give it this name and exactly these members. Raises as `refuse_alike`."""
    before = {} if group.pk is None else _facts(_locked(group))
    refuse_alike(group, name)
    group.name = name
    group.save()
    group.user_set.set(members)
    _record_change(group, before)
    return group


def refuse_alike(group: Group, name: str) -> None:
    """Raise `InvalidInputError` if the name looks like that of another group. A name that stays is accepted."""
    if group.pk is not None and Group.objects.filter(pk=group.pk, name=name).exists():
        return
    for other in Group.objects.exclude(pk=group.pk).values_list("name", flat=True):
        if is_alike(name, other):
            raise InvalidInputError({"name": [f"This looks like the name of the group {other}."]})


@transaction.atomic
def set_groups(*, user: User, groups: Iterable[Group]) -> None:
    """Put the user into exactly these groups."""
    wanted = {group.pk: group for group in groups}
    present = {group.pk: group for group in user.groups.all()}
    for pk in sorted(wanted.keys() ^ present.keys()):
        group = _locked(wanted.get(pk) or present[pk])
        before = _facts(group)
        (user.groups.add if pk in wanted else user.groups.remove)(group)
        _record_change(group, before)


@transaction.atomic
def delete_group(*, group: Group) -> None:
    """Delete the group. Its members lose the grants that they had through it."""
    group = _locked(group)
    audit.record("group.deleted", group, before=_facts(group) | audit.removed_with(group))
    logger.info("group deleted", extra={"group_id": group.pk})
    group.delete()


def _record_change(group: Group, before: dict[str, object]) -> None:
    if not before:
        audit.record("group.created", group, after=_facts(group))
        return
    old, new = audit.changes(before, _facts(group))
    if new:
        audit.record("group.changed", group, before=old, after=new)


def _facts(group: Group) -> dict[str, object]:
    members = group.user_set.order_by("username").values_list("username", flat=True)
    return {"name": group.name, "members": list(members)}


def _locked(group: Group) -> Group:
    # Two who change the members of one group take turns, so that each `before` is true.
    return Group.objects.select_for_update().get(pk=group.pk)
