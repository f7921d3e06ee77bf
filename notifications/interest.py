"""Finds which configs a batch of events may concern. The number of queries depends neither on the batch nor on them.

A config that wants a type for some workflows, users, tags or states only has a subscription for each of these subjects
(`rules.subjects`). So an index finds the configs for an event, and passes over all others. `rules.why_not` judges what
is found here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

from django.db import connection
from django.db.models import Q

from notifications import facts as facts_of
from notifications import rules
from notifications.models import Delivery, Episode, NotificationConfig, Subscription
from notifications.rules import Facts
from workflows.eventlog.events import WorkflowCompleted
from workflows.models import Event


def concern_somebody(events: Sequence[Event]) -> bool:
    """Return whether a config may want one of the events, or waits for the end of a failure.

    It may want those of the types and subjects that it subscribes to. One that names tags may want every event of the
    type, because the tags are not known yet. One query by hand: each recorded event asks this, and most of them
    concern nobody.
    """
    types, workflows = {event.type for event in events}, _completed(events)
    subjects = set().union(*(rules.own_subjects(event) for event in events))
    of_types = f"SELECT 1 FROM notifications_subscription WHERE type IN ({_places(types)})"  # noqa: S608 - placeholders
    asked = f"EXISTS ({of_types} AND subject IN ({_places(subjects)})) OR EXISTS ({of_types} AND subject LIKE %s)"
    values = [*types, *subjects, *types, f"{rules.START_OF_TAGS}%"]
    if workflows:
        asked += (
            " OR EXISTS (SELECT 1 FROM notifications_episode"  # noqa: S608 - placeholders
            f" WHERE closed_at IS NULL AND workflow_id IN ({_places(workflows)}))"
        )
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {asked}", [*values, *workflows])
        return bool(cursor.fetchone()[0])


def _completed(events: Sequence[Event]) -> set[int]:
    """Return the workflows of which a run has succeeded."""
    return {event.workflow_id for event in events if event.type == WorkflowCompleted.type and event.workflow_id}


def _places(values: Collection[object]) -> str:
    return ", ".join(["%s"] * len(values))


@dataclass
class Interest:
    """What is known about a batch: facts by event, configs by subscription, reported failures, deliveries so far.

    `reported` has a pair for each config and workflow with a failure that was reported and goes on.
    """

    facts: dict[int, Facts]
    subscribers: dict[tuple[str, str], set[int]]
    reported: set[tuple[int, int]]
    configs: dict[int, NotificationConfig]
    done: set[tuple[int, int]]

    @classmethod
    def read(cls, events: Sequence[Event]) -> Self:
        facts = facts_of.of_all(events)
        subscribers = _subscribers(list(facts.values()))
        reported = set(
            Episode.objects.filter(
                workflow__in=_completed(events), closed_at__isnull=True, config__deleted_at__isnull=True
            ).values_list("config_id", "workflow_id")
        )
        wanted = set().union(*subscribers.values(), {config_id for config_id, _ in reported})
        configs = NotificationConfig.objects.alive().select_related("owner").in_bulk(wanted) if wanted else {}
        done = Delivery.objects.filter(event__in=[event.pk for event in events], config__in=configs)
        return cls(facts, subscribers, reported, configs, set(done.values_list("event_id", "config_id")))

    def is_reported(self, config: NotificationConfig, event: Event) -> bool:
        return (config.pk, event.workflow_id) in self.reported

    def of(self, event: Event) -> Iterator[tuple[NotificationConfig, frozenset[str], Facts]]:
        """Return the configs that the event may concern, the types that each of them subscribes to, and the facts."""
        subscribed = self._subscribed(event)
        waiting = {config_id for config_id, workflow_id in self.reported if workflow_id == event.workflow_id}
        found = subscribed | waiting if event.type == WorkflowCompleted.type else subscribed
        configs = [self.configs[pk] for pk in sorted(found) if (event.pk, pk) not in self.done]
        facts = self.facts[event.pk]
        if any(config.filters.get("only_on_change") for config in configs):
            facts = replace(facts, changed=facts_of.changed(event))
        for config in configs:
            yield config, frozenset({event.type} if config.pk in subscribed else ()), facts

    def _subscribed(self, event: Event) -> set[int]:
        subjects = rules.subjects_of(self.facts[event.pk])
        return set().union(*(self.subscribers.get((event.type, subject), set()) for subject in subjects))


def _subscribers(facts: Sequence[Facts]) -> dict[tuple[str, str], set[int]]:
    """Return which configs subscribe to the types of these events within their subjects."""
    subjects = set().union(*(rules.subjects_of(one) for one in facts))
    found = Subscription.objects.filter(
        _owner_may_see(facts),
        type__in={one.type for one in facts},
        subject__in=subjects,
        config__deleted_at__isnull=True,
    )
    subscribers: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for event_type, subject, config_id in found.order_by().values_list("type", "subject", "config_id"):
        subscribers[event_type, subject].add(config_id)
    return dict(subscribers)


def _owner_may_see(facts: Sequence[Facts]) -> Q:
    """Return the configs whose owner may see one of the events. All of them, if one event is for everybody."""
    named: set[int | None] = set()
    for one in facts:
        if one.audience.everyone if one.audience else one.user_id is None:
            return Q()
        named |= one.audience.user_ids if one.audience else {one.user_id}
    owner = Q(config__owner__isnull=True) | Q(config__owner__is_superuser=True)
    return owner | Q(config__owner__in=[user_id for user_id in named if user_id is not None])
