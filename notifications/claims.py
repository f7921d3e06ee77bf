"""Claims: a worker leases the deliveries that are due, so that nobody else makes them at the same time.

If the worker dies, the lease expires. Another worker then makes the delivery again, under the same message id.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from notifications import facts as facts_of
from notifications import rules
from notifications.models import (
    WAITING,
    Attempt,
    Delivery,
    DeliveryQuerySet,
    Kind,
    NotificationConfig,
    Outcome,
    Status,
)
from workflows.models import Event


@transaction.atomic
def claim(config_id: int, *, now: datetime, limit: int, only: int | None = None) -> list[Delivery]:
    """Lease up to `limit` of the config's due deliveries that nobody else holds. `only` names one delivery.

    Deliveries of events that the owner can no longer see are suppressed.
    """
    # Claims of one config take turns, so that no more deliveries are under way at once than it allows.
    config = lock_config(config_id)
    if not (config.enabled and config.deleted_at is None):
        return []
    room = min(limit, config.max_in_flight - config.deliveries.filter(leased_until__gte=now).count())
    due = Delivery.objects.claimable(now).filter(config=config)
    if only is not None:
        due = due.filter(pk=only)
    chosen = list(due.select_related("event").order_by("due_at", "id")[: max(room, 0)])
    return _lease(_still_visible(chosen, config), now=now)


def lock_config(config_id: int) -> NotificationConfig:
    """Return the config with its row locked, but not for rows that refer to it: events can still be recorded."""
    locked = NotificationConfig.objects.select_for_update(of=("self",), no_key=True)
    return locked.select_related("owner").get(pk=config_id)


def _still_visible(deliveries: list[Delivery], config: NotificationConfig) -> list[int]:
    """Return the deliveries whose events the owner can still see, and suppress the others."""
    events = {delivery.pk: delivery.event or _last_folded(delivery) for delivery in deliveries}
    facts = facts_of.visibility([event for event in events.values() if event])
    visible = []
    for pk, event in events.items():
        if event and (reason := rules.why_hidden(config, facts[event.pk])):
            suppress(Delivery.objects.filter(pk=pk), reason=f"when it was due: {reason}")
        else:
            visible.append(pk)
    return visible


def _last_folded(delivery: Delivery) -> Event | None:
    if delivery.kind != Kind.DIGEST:
        return None
    last = delivery.folded.select_related("event").order_by("-id").first()
    return last.event if last else None


def suppress(deliveries: DeliveryQuerySet, *, reason: str) -> int:
    """Settle those of the deliveries that are waiting as suppressed; return how many that were."""
    return deliveries.filter(status__in=WAITING).update(
        status=Status.SUPPRESSED, reason=reason, finished_at=timezone.now(), leased_until=None, leased_by=""
    )


def _lease(ids: list[int], *, now: datetime) -> list[Delivery]:
    me, until = uuid.uuid4().hex, now + timedelta(seconds=settings.NOTIFICATION_LEASE)
    # The filter repeats that they are free: another worker may have leased some since they were read.
    Delivery.objects.free(now).filter(pk__in=ids).update(
        leased_until=until, leased_by=me, attempts_made=F("attempts_made") + 1, tries=F("tries") + 1
    )
    related = ("config__owner", "event__workflow", "event__run__user", "episode")
    leased = list(Delivery.objects.filter(pk__in=ids, leased_by=me).select_related(*related).order_by("due_at", "id"))
    cut_short = Attempt.objects.filter(delivery__in=[d.pk for d in leased], outcome=Outcome.RUNNING)
    cut_short.update(outcome=Outcome.LOST, error="the worker died before it recorded a result")
    Attempt.objects.bulk_create(Attempt(delivery=d, number=d.attempts_made, started_at=now) for d in leased)
    return leased
