"""Send tests, redeliver, create canaries, and delete old deliveries."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from accounts import limits
from accounts.limits import Rate
from notifications import claims, consents
from notifications.delivery import deliver_one
from notifications.models import Delivery, DeliveryQuerySet, Kind, NotificationConfig, Status
from notifications.services import links
from notifications.transports.email import recipients_in
from rest.errors import ConflictError

if TYPE_CHECKING:
    from accounts.models import User

SETTLED = (Status.DELIVERED, Status.FAILED, Status.SUPPRESSED, Status.FOLDED)


class ConfigDisabledError(ConflictError):
    """Nothing can be sent to the config until it is enabled."""

    code = "config_disabled"


class AlreadyScheduledError(ConflictError):
    """The delivery is still waiting to be sent."""

    code = "still_owed"


def send_test(*, config: NotificationConfig, actor: User) -> Delivery:
    """Send a test message while the caller waits. The delivery and its attempt hold the result.

    Raises `TooManyRequestsError` beyond the limits of the actor and of the mailboxes.
    """
    _require_enabled(config)
    limits.require(Rate.TEST, f"user:{actor.pk}")
    if config.channel == "email":
        links.require_room(set(recipients_in(config.target)) - set(consents.withheld(config)))
    now = timezone.now()
    with transaction.atomic():
        delivery = Delivery.objects.create(config=config, kind=Kind.TEST, created_at=now, due_at=now)
        # Claim it in the transaction that creates it, or a worker might take it first.
        leased = claims.claim(config.pk, now=now, limit=1, only=delivery.pk)
    for one in leased:
        deliver_one(one)
    return Delivery.objects.select_related("config", "event").get(pk=delivery.pk)


def redeliver(*, delivery: Delivery) -> Delivery:
    """Schedule a settled delivery again, from the first try on, under the same message id."""
    _require_enabled(delivery.config)
    if not _requeue(Delivery.objects.filter(pk=delivery.pk), now=timezone.now()):
        raise AlreadyScheduledError("The delivery is already scheduled.", extra={"status": delivery.status})
    return Delivery.objects.select_related("config", "event").get(pk=delivery.pk)


def redeliver_range(
    *, config: NotificationConfig, since: datetime, until: datetime, statuses: Iterable[str] = (Status.FAILED,)
) -> int:
    """Schedule the config's deliveries of that time that have one of these statuses again; return how many."""
    _require_enabled(config)
    chosen = Delivery.objects.filter(
        config=config, created_at__gte=since, created_at__lt=until, status__in=list(statuses)
    ).exclude(kind__in=[Kind.TEST, Kind.CANARY])
    return _requeue(chosen, now=timezone.now())


def _require_enabled(config: NotificationConfig) -> None:
    if not config.enabled:
        raise ConfigDisabledError("The config is disabled: enable it first.", extra={"reason": config.disabled_reason})


@transaction.atomic
def _requeue(chosen: DeliveryQuerySet, *, now: datetime) -> int:
    # Everybody gets again what everybody has got. Otherwise only those who have not accepted it get it.
    chosen.filter(status=Status.DELIVERED).update(recipients=[])
    return chosen.filter(status__in=SETTLED).update(
        status=Status.PENDING, reason="redelivery was asked for", due_at=now, tries=0, finished_at=None
    )


def create_canaries(*, now: datetime) -> int:
    """Create a canary for each canary config whose last one is settled; return how many."""
    pending = Delivery.objects.filter(kind=Kind.CANARY, status=Status.PENDING)
    configs = NotificationConfig.objects.alive().filter(enabled=True, is_canary=True)
    canaries = [
        Delivery(config=config, kind=Kind.CANARY, created_at=now, due_at=now)
        for config in configs.exclude(pk__in=pending.values("config_id"))
    ]
    return len(Delivery.objects.bulk_create(canaries))


def forget(*, before: datetime, batch: int = 1000) -> int:
    """Delete the deliveries that were settled before that moment; return how many."""
    old = Delivery.objects.filter(finished_at__lt=before).values_list("pk", flat=True)
    total = 0
    while ids := list(old[:batch]):
        total += len(ids)
        Delivery.objects.filter(pk__in=ids).delete()
    return total


def overdue(*, now: datetime, limit: timedelta) -> int:
    """Return how many deliveries have been due for longer than `limit` without a worker taking them."""
    return Delivery.objects.overdue(now, limit=limit).count()


def canary_arrived_at() -> datetime | None:
    """Return when a canary last arrived, at any config: the alert path worked then."""
    arrived = Delivery.objects.filter(kind=Kind.CANARY, status=Status.DELIVERED)
    return arrived.order_by("-created_at").values_list("finished_at", flat=True).first()
