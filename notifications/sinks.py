"""Where events come in: each is owed to whom it concerns, in the transaction that records it.

`settings.EVENT_SINKS` names `owe_deliveries`; workflows know nothing of notifications.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import F, Q
from django.utils import timezone

from notifications import facts as facts_of
from notifications import rules
from notifications.models import Delivery, Episode, Kind, NotificationConfig, Status
from workflows.events import WorkflowCompleted, WorkflowFailed
from workflows.models import Event


def owe_deliveries(event: Event) -> None:
    """Owe the event to each config that wants it, once, however often we are called.

    It costs one query while nobody wants the type.
    """
    configs = _concerned(event)
    if not configs:
        return
    now, facts = timezone.now(), facts_of.of(event)
    told = set(Delivery.objects.filter(event=event).values_list("config_id", flat=True))
    owed = [_owed(config, types, event, facts, now=now) for config, types in configs if config.pk not in told]
    Delivery.objects.bulk_create([delivery for delivery in owed if delivery], ignore_conflicts=True)


def _concerned(event: Event) -> list[tuple[NotificationConfig, frozenset[str]]]:
    """Those that want the type, and those that were told of a failure which this may be the end of."""
    alive = NotificationConfig.objects.alive().select_related("owner")
    subscribed = [(config, frozenset({event.type})) for config in alive.filter(subscriptions__type=event.type)]
    if event.type != WorkflowCompleted.type or event.workflow_id is None:
        return subscribed
    open_episodes = Episode.objects.filter(workflow_id=event.workflow_id, closed_at__isnull=True)
    others = alive.filter(pk__in=open_episodes.values("config_id")).exclude(subscriptions__type=event.type)
    return subscribed + [(config, frozenset()) for config in others]


def _owed(
    config: NotificationConfig, types: frozenset[str], event: Event, facts: rules.Facts, *, now: datetime
) -> Delivery | None:
    """What the event means to this config, which wants these types; None when it is not to be told."""
    recovered: list[Episode] = []
    if event.type == WorkflowCompleted.type and event.workflow_id:
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
    return delivery


def _new(config: NotificationConfig, event: Event, *, now: datetime) -> Delivery:
    delivery = Delivery(config=config, event=event, created_at=now, due_at=now)
    if not config.enabled:
        delivery.status, delivery.finished_at = Status.SUPPRESSED, now
        delivery.reason = f"the config was disabled: {config.disabled_reason or 'by hand'}"
    elif end := rules.quiet_end(config, now):
        delivery.status, delivery.due_at = Status.HELD, end
        delivery.reason = "held until the end of the quiet hours"
    return delivery


def _fold(delivery: Delivery, workflow_id: int, *, failed_tasks: list[str], now: datetime) -> None:
    """Let the first failure of an episode through, and put its repeats into a digest."""
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
    delivery.reason = "a repeat of a failure that was told before: it is counted in a digest"


def _digest(episode: Episode, config: NotificationConfig, *, now: datetime) -> Delivery:
    """The digest that is being collected, now one longer, or a new one."""
    # A conditional UPDATE: it locks the row, so that nobody sends the digest before this repeat is committed.
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
    """End what this success ends; a digest that was still being collected is told with it."""
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
    ).update(status=Status.SUPPRESSED, reason="it succeeded again: the notice of that tells the count", finished_at=now)
