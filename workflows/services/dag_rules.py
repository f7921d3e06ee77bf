"""Who may build on which DAG. Only admins get here: the edges ask for the scope `user:admin`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import transaction

from accounts import audit
from rest.errors import InvalidInputError, NotAllowedError
from workflows.dagrules import DagLevel, DagMatch, DagRule
from workflows.eventlog import publication
from workflows.models import Airflow
from workflows.naming import DEFAULT

if TYPE_CHECKING:
    from django.contrib.auth.models import Group

    from accounts.models import User


class Opened(NamedTuple):
    """`created` is false when the level of an existing rule was changed."""

    rule: DagRule
    created: bool


@transaction.atomic
def open_dags(
    *,
    actor: User,
    airflow: str = DEFAULT,
    match: DagMatch,
    value: str = "",
    user: User | None = None,
    group: Group | None = None,
    level: DagLevel = DagLevel.BUILD,
) -> Opened:
    """Open the DAGs that match to a user, a group, or everybody, in place of the level that such a rule had.

    They are those of the named Airflow, or of every one for "".
    Streams follow at once.
    """
    _require_admin(actor)
    if user is not None and group is not None:
        raise InvalidInputError({"user": ["Expected a user, a group, or neither of them for everybody."]})
    if bool(value) == (match == DagMatch.ALL):
        raise InvalidInputError({"value": ["Required, except for every DAG."]})
    if airflow and airflow != DEFAULT and not Airflow.objects.filter(name=airflow).exists():
        raise InvalidInputError({"airflow": [f"There is no Airflow {airflow}."]})
    same: dict[str, Any] = {"airflow": airflow, "match": match, "value": value, "user": user, "group": group}
    before = DagRule.objects.filter(**same).first()
    opened = Opened(*DagRule.objects.update_or_create(**same, defaults={"level": level}))
    audit.record(
        "dag_rule.added" if opened.created else "dag_rule.changed",
        opened.rule,
        before=_facts(before) if before else None,
        after=_facts(opened.rule),
        actor=actor,
    )
    transaction.on_commit(publication.send_rights_changed, robust=True)
    return opened


@transaction.atomic
def close_dags(*, rule: DagRule, actor: User) -> None:
    """Withdraw a rule. Workflows that need it stay, but cannot be triggered or retried any more."""
    _require_admin(actor)
    audit.record("dag_rule.withdrawn", rule, before=_facts(rule), actor=actor)
    rule.delete()
    transaction.on_commit(publication.send_rights_changed, robust=True)


def _require_admin(actor: User) -> None:
    if not actor.is_superuser:
        raise NotAllowedError("Only admins decide who may build on which DAG.")


def _facts(rule: DagRule) -> dict[str, Any]:
    return {
        "airflow": rule.airflow,
        "match": rule.match,
        "value": rule.value,
        "user": rule.user and rule.user.username,
        "group": rule.group and rule.group.name,
        "level": rule.level,
    }
