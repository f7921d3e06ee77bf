"""Why was this person not told? Answered from the ledger, and where that has no row, by asking the rules again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import Q

from accounts.models import User
from notifications import facts as facts_of
from notifications import rules
from notifications.models import Delivery, NotificationConfig, Status
from workflows.models import Event, Run


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of one event for one config. Without a config: what is true of the person."""

    text: str
    event: Event | None = None
    config: NotificationConfig | None = None
    delivery: Delivery | None = None


def explain(*, user: User, run: Run) -> list[Answer]:
    """For each of the person's configs, and those for everyone, what was told of the run, and why not more."""
    configs = list(
        NotificationConfig.objects.filter(Q(owner=user) | Q(owner__isnull=True))
        .exclude(channel="canary")
        .select_related("owner")
        .prefetch_related("subscriptions")
    )
    answers = list(_of_the_person(user, configs))
    events = _worth_asking(run, configs)
    rows = Delivery.objects.filter(event__in=events, config__in=configs).select_related("digest")
    told = {(row.event_id, row.config_id): row for row in rows}
    for event in events:
        facts = facts_of.of(event)
        answers += [_of_one(event, config, facts, told.get((event.pk, config.pk))) for config in configs]
    return answers


def _of_the_person(user: User, configs: list[NotificationConfig]) -> Iterator[Answer]:
    if not user.is_active:
        yield Answer(text="The account is not active: nothing is told to it.")
    if not any(config.owner_id == user.pk and config.deleted_at is None for config in configs):
        yield Answer(text="They have no notification config of their own.")


def _worth_asking(run: Run, configs: list[NotificationConfig]) -> list[Event]:
    """What happened to the run as a whole, and what else somebody wants."""
    wanted = {subscription.type for config in configs for subscription in config.subscriptions.all()}
    return list(run.events.filter(Q(type__startswith="workflow.") | Q(type__in=wanted)).order_by("seq"))


def _of_one(event: Event, config: NotificationConfig, facts: rules.Facts, row: Delivery | None) -> Answer:
    text = _from_the_ledger(row) if row else _from_the_rules(event, config, facts)
    return Answer(text=text, event=event, config=config, delivery=row)


def _from_the_ledger(row: Delivery) -> str:
    if row.status == Status.DELIVERED:
        return f"Delivered at {row.finished_at:%Y-%m-%d %H:%M:%S} UTC."
    if row.status == Status.FOLDED and row.digest:
        return f"Counted in the digest {row.digest}, which is {row.digest.status}."
    return f"{row.get_status_display()}: {row.reason or f'due at {row.due_at:%Y-%m-%d %H:%M:%S} UTC'}."


def _from_the_rules(event: Event, config: NotificationConfig, facts: rules.Facts) -> str:
    if config.deleted_at is not None:
        return f"Not owed: the config was deleted at {config.deleted_at:%Y-%m-%d %H:%M:%S} UTC."
    if config.created_at > event.timestamp:
        return f"Not owed: the config was created at {config.created_at:%Y-%m-%d %H:%M:%S} UTC, after the event."
    types = frozenset(subscription.type for subscription in config.subscriptions.all())
    reason = rules.why_not(config, types, facts)
    changed = f" (the config was changed since, at {config.updated_at:%Y-%m-%d %H:%M:%S} UTC)"
    hint = changed if config.updated_at > event.timestamp else ""
    return f"Not owed: {reason or 'it would be now'}{hint}."
