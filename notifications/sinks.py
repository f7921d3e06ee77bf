"""Where events come in: each one becomes deliveries, in the transaction that records it.

`settings.EVENT_SINKS` names `create_deliveries`, so workflows know nothing of notifications.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import F, Q
from django.utils import timezone

from notifications import rules
from notifications.interest import Interest, concern_somebody
from notifications.models import Delivery, Episode, Kind, NotificationConfig, Status
from notifications.settlement import disabled_because
from workflows.eventlog.events import WorkflowCompleted, WorkflowFailed
from workflows.models import Event


def create_deliveries(events: Sequence[Event]) -> None:
    """Create a delivery of each event for each config that it concerns. A second call changes nothing.

    It costs one query if no config subscribes to one of the types.
    """
    if not concern_somebody(events):
        return
    now, interest = timezone.now(), Interest.read(events)
    new = [
        _delivery(config, types, event, facts, interest, now=now)
        for event in events
        for config, types, facts in interest.of(event)
    ]
    Delivery.objects.bulk_create([delivery for delivery in new if delivery], ignore_conflicts=True)


def _delivery(
    config: NotificationConfig,
    types: frozenset[str],
    event: Event,
    facts: rules.Facts,
    interest: Interest,
    *,
    now: datetime,
) -> Delivery | None:
    """Return the delivery to a config that subscribes to these types; None if the event does not concern it."""
    recovered: list[Episode] = []
    if event.type == WorkflowCompleted.type and event.workflow_id and interest.is_reported(config, event):
        recovered = _close_episodes(config, event.workflow_id, now=now)
    if recovered and not rules.why_hidden(config, facts):
        delivery = _new(config, event, now=now)
        delivery.kind, delivery.episode = Kind.RECOVERY, recovered[0]
        return delivery
    if rules.why_not(config, types, facts):
        return None
    delivery = _new(config, event, now=now)
    if config.fold_repeats and config.enabled and event.type == WorkflowFailed.type and event.workflow_id:
        _fold(delivery, event.workflow_id, failed_tasks=event.data["failed_tasks"], now=now)
        interest.reported.add((config.pk, event.workflow_id))
    return delivery


def _new(config: NotificationConfig, event: Event, *, now: datetime) -> Delivery:
    delivery = Delivery(config=config, event=event, created_at=now, due_at=now)
    if not config.enabled:
        delivery.status, delivery.finished_at = Status.SUPPRESSED, now
        delivery.reason = disabled_because(config.disabled_reason)
    elif end := rules.quiet_end(config, now):
        delivery.status, delivery.due_at = Status.HELD, end
        delivery.reason = "held until the end of the quiet hours"
    return delivery


def _fold(delivery: Delivery, workflow_id: int, *, failed_tasks: list[str], now: datetime) -> None:
    """Send the first failure of an episode, and count its repeats in a digest."""
    config = delivery.config
    key = ", ".join(failed_tasks)[:300]
    episode, is_new = Episode.objects.get_or_create(
        config=config, workflow_id=workflow_id, key=key, closed_at=None, defaults={"opened_at": now}
    )
    Episode.objects.filter(pk=episode.pk).update(failures=F("failures") + 1)
    delivery.episode = episode
    if is_new:
        return
    delivery.digest = _digest(episode, config, now=now)
    delivery.status, delivery.finished_at = Status.FOLDED, now
    delivery.reason = "a repeat of a reported failure: a digest counts it"


def _digest(episode: Episode, config: NotificationConfig, *, now: datetime) -> Delivery:
    """Return the digest that is being collected, with one more failure, or a new one."""
    # A conditional UPDATE: it locks the row, so no worker sends the digest before this repeat is committed.
    collecting = Delivery.objects.filter(
        Q(leased_until__isnull=True), episode=episode, kind=Kind.DIGEST, status=Status.PENDING, attempts_made=0
    )
    newest = collecting.order_by("-id").first()
    if newest and collecting.filter(pk=newest.pk).update(folded_count=F("folded_count") + 1):
        return newest
    due = now + timedelta(seconds=settings.NOTIFICATION_DIGEST_INTERVAL)
    due = rules.quiet_end(config, due) or due
    return Delivery.objects.create(
        config=config, kind=Kind.DIGEST, episode=episode, folded_count=1, created_at=now, due_at=due
    )


def _close_episodes(config: NotificationConfig, workflow_id: int, *, now: datetime) -> list[Episode]:
    """Close the episodes that this success ends. Its message replaces a digest that was still being collected."""
    ended = list(Episode.objects.filter(config=config, workflow_id=workflow_id, closed_at__isnull=True))
    Episode.objects.filter(pk__in=[episode.pk for episode in ended]).update(closed_at=now)
    _drop_digests(ended, now=now)
    return ended


def _drop_digests(episodes: Iterable[Episode], *, now: datetime) -> None:
    Delivery.objects.filter(
        episode__in=[episode.pk for episode in episodes],
        kind=Kind.DIGEST,
        status=Status.PENDING,
        attempts_made=0,
        leased_until__isnull=True,
    ).update(status=Status.SUPPRESSED, reason="the workflow succeeded: that message has the count", finished_at=now)
