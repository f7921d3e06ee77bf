"""Answers why a user was not notified: from the ledger, or from the rules if the ledger has no row."""

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
    """What happened to one event for one config. Without a config, a fact about the user."""

    text: str
    event: Event | None = None
    config: NotificationConfig | None = None
    delivery: Delivery | None = None


def explain(*, user: User, run: Run) -> list[Answer]:
    """Return what the user's configs, and those for everyone, reported about the run, and why not more."""
    configs = list(
        NotificationConfig.objects.filter(Q(owner=user) | Q(owner__isnull=True))
        .exclude(channel="canary")
        .select_related("owner")
        .prefetch_related("subscriptions")
    )
    answers = list(_about_user(user, configs))
    events = _relevant_events(run, configs)
    rows = Delivery.objects.filter(event__in=events, config__in=configs).select_related("digest")
    deliveries = {(row.event_id, row.config_id): row for row in rows}
    for event in events:
        facts = facts_of.of(event)
        answers += [_about_event(event, config, facts, deliveries.get((event.pk, config.pk))) for config in configs]
    return answers


def _about_user(user: User, configs: list[NotificationConfig]) -> Iterator[Answer]:
    if not user.is_active:
        yield Answer(text="The account is inactive and gets no notifications.")
    if not any(config.owner_id == user.pk and config.deleted_at is None for config in configs):
        yield Answer(text="The user has no notification config.")


def _relevant_events(run: Run, configs: list[NotificationConfig]) -> list[Event]:
    """Return the events about the run as a whole, and those whose type a config subscribes to."""
    types = {subscription.type for config in configs for subscription in config.subscriptions.all()}
    return list(run.events.filter(Q(type__startswith="workflow.") | Q(type__in=types)).order_by("seq"))


def _about_event(event: Event, config: NotificationConfig, facts: rules.Facts, row: Delivery | None) -> Answer:
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
        return f"Not sent: the config was deleted at {config.deleted_at:%Y-%m-%d %H:%M:%S} UTC."
    if config.created_at > event.timestamp:
        return f"Not sent: the config was created at {config.created_at:%Y-%m-%d %H:%M:%S} UTC, after the event."
    types = frozenset(subscription.type for subscription in config.subscriptions.all())
    reason = rules.why_not(config, types, facts)
    changed = f" (the config was changed after the event, at {config.updated_at:%Y-%m-%d %H:%M:%S} UTC)"
    hint = changed if config.updated_at > event.timestamp else ""
    return f"Not sent: {reason or 'now it would be'}{hint}."
