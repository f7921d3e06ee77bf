"""Who may see the events of a workflow or a DAG, for the live hub and for notifications.

The hub needs all readers of one workflow, so it asks once per workflow and not once per client and event. The opposite
questions are `Workflow.objects.remembered_by` and `Event.objects.visible_to`. Tests compare them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from django.contrib.auth.models import Group

from workflows import dagrules
from workflows.dagrules import DagLevel, DagRule
from workflows.models import ABOUT_DAGS, AUTHORS_ERROR, Dag, Grant, Visibility, Workflow

# Names an audience: the id of a workflow, those who see a DAG, or those who may read its author's errors.
Key = int | tuple[Literal["dag", "authors"], int | None]


class Addressed(Protocol):
    """What decides who may see an event."""

    @property
    def type(self) -> str: ...
    @property
    def workflow_id(self) -> int | None: ...
    @property
    def dag_id(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Audience:
    """Administrators belong to every audience. Others belong to it if `everyone` is true or it names them."""

    everyone: bool
    user_ids: frozenset[int]

    def includes(self, *, user_id: int, is_admin: bool) -> bool:
        return self.everyone or is_admin or user_id in self.user_ids


NOBODY = Audience(everyone=False, user_ids=frozenset())  # beside the administrators


def key_of(event: Addressed) -> Key | None:
    """Return which audience an event has; None if it concerns no workflow and no DAG."""
    if event.workflow_id is not None:
        return event.workflow_id
    if event.type == AUTHORS_ERROR:
        return ("authors", event.dag_id)
    return ("dag", event.dag_id) if event.type.startswith(ABOUT_DAGS) else None


def load_all(keys: Collection[Key]) -> dict[Key, Audience]:
    """Return the present audience of each key. That of a workflow that does not exist is missing."""
    found: dict[Key, Audience] = {key: _of_dag(*key) for key in keys if not isinstance(key, int)}
    if workflow_ids := {key for key in keys if isinstance(key, int)}:
        found.update((key, its) for key, its in load(workflow_ids).items())
    return found


def _of_dag(who: Literal["dag", "authors"], dag_pk: int | None) -> Audience:
    """Return who may see a DAG, or who may read its author's errors. Events about DAGs are rare."""
    dag = Dag.objects.filter(pk=dag_pk).first() if dag_pk is not None else None
    if dag is None:
        return NOBODY
    return _seeing(dag) if who == "dag" else _managing_all(dag.of_same_file())


def _seeing(dag: Dag) -> Audience:
    opened = _opened(dag, DagLevel.BUILD)
    of_workflows = load(Workflow.objects.alive().filter(dag=dag).values_list("pk", flat=True)).values()
    return Audience(
        everyone=dagrules.is_open() or opened.everyone or any(its.everyone for its in of_workflows),
        user_ids=opened.user_ids.union(*(its.user_ids for its in of_workflows)),
    )


def _managing_all(dags: Iterable[Dag]) -> Audience:
    """Return those who may manage every one of these DAGs."""
    audiences = [_opened(dag, DagLevel.MANAGE) for dag in dags]
    named = [its.user_ids for its in audiences if not its.everyone]
    return Audience(everyone=not named, user_ids=frozenset.intersection(*named) if named else frozenset())


def _opened(dag: Dag, level: DagLevel) -> Audience:
    """Return those to whom rules of this level open the DAG."""
    opening = [rule for rule in DagRule.objects.of_level(level) if rule.opens(dag.airflow_name, dag.dag_id, dag.tags)]
    members = Group.objects.filter(pk__in=[rule.group_id for rule in opening if rule.group_id])
    named = {rule.user_id for rule in opening if rule.user_id} | set(members.values_list("user", flat=True)) - {None}
    return Audience(everyone=any(not (rule.user_id or rule.group_id) for rule in opening), user_ids=frozenset(named))


def load(workflow_ids: Collection[int]) -> dict[int, Audience]:
    """Return the present audience of each of these workflows. A deleted workflow has its owner as audience."""
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
