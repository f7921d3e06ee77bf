"""The write path: each function is one change. The API, the admin pages and the commands come through here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from accounts import audit
from notifications import delivery as deliveries
from notifications.models import (
    Delivery,
    DeliveryQuerySet,
    Kind,
    NotificationConfig,
    Status,
    Subscription,
    name_of,
)
from notifications.transports import CHANNELS, webhook
from notifications.transports.base import InvalidTargetError
from svops.errors import ConflictError, InvalidInputError, NotAllowedError
from workflows.events import CATALOGUE

if TYPE_CHECKING:
    from accounts.models import User

TYPES: dict[str, str] = {name_of(event_type): event_type for event_type in CATALOGUE}
SETTLED = (Status.DELIVERED, Status.FAILED, Status.SUPPRESSED, Status.FOLDED)
MOST_SECRETS = 5


class ConfigDisabledError(ConflictError):
    """Nothing can be sent to the config until it is enabled."""

    code = "config_disabled"


class StillOwedError(ConflictError):
    """The delivery is on the schedule already."""

    code = "still_owed"


# --- Configs ----------------------------------------------------------------------------------------------


def create_config(
    *,
    actor: User,
    name: str,
    channel: str,
    target: Any,
    notification_types: Iterable[str],
    for_everyone: bool = False,
    secrets: Sequence[str] | None = None,
    **fields: Any,
) -> NotificationConfig:
    """Raises `InvalidInputError` for a target that is malformed or may not be reached, `NotAllowedError` for a
    config for everyone by somebody who is no admin.
    """
    if for_everyone and not actor.is_superuser:
        raise NotAllowedError("Only admins may make a notification config for everyone.")
    transport = CHANNELS[channel]
    config = NotificationConfig(name=name, channel=channel, owner=None if for_everyone else actor)
    _apply({"fold_repeats": transport.for_people, **fields}, to=config)
    _retarget(config, target)
    if transport.takes_secrets or secrets:
        _set_secrets(config, secrets or [webhook.new_secret()])
    return _save(config, notification_types, action="created")


def update_config(
    *,
    config: NotificationConfig,
    target: Any = None,
    notification_types: Iterable[str] | None = None,
    secrets: Sequence[str] | None = None,
    **fields: Any,
) -> NotificationConfig:
    """Change what is given; raises as `create_config`."""
    enabled = fields.pop("enabled", None)
    _apply(fields, to=config)
    changed = {*fields, "updated_at"}
    if target is not None:
        _retarget(config, target)
        changed |= {"sealed_target", "target_hint", "failures", "paused_until"}
    if secrets is not None:
        _set_secrets(config, secrets)
        changed.add("sealed_secrets")
    # Only what was changed: workers write to the same row.
    _save(config, notification_types, update_fields=changed, action="changed")
    if enabled is not None:
        enable(config=config) if enabled else disable(config=config)
    return NotificationConfig.objects.select_related("owner").get(pk=config.pk)


def _apply(fields: Mapping[str, Any], *, to: NotificationConfig) -> None:
    for name, value in fields.items():
        setattr(to, name, value)


def _retarget(config: NotificationConfig, target: Any) -> None:
    transport = CHANNELS[config.channel]
    try:
        config.target = cleaned = transport.clean(target, deliveries.client())
    except InvalidTargetError as exc:
        raise InvalidInputError({transport.field: [str(exc)]}) from exc
    config.target_hint = transport.mask(cleaned)[:200]
    # What is known of the receiver was known of another one.
    config.failures, config.paused_until = 0, None


def _set_secrets(config: NotificationConfig, secrets: Sequence[str]) -> None:
    if not CHANNELS[config.channel].takes_secrets:
        raise InvalidInputError({"secrets": [f"The channel {config.channel} signs nothing."]})
    if not 0 < len(secrets) <= MOST_SECRETS:
        raise InvalidInputError({"secrets": [f"Expected 1 to {MOST_SECRETS} secrets."]})
    try:
        config.secrets = [webhook.clean_secret(secret) for secret in secrets]
    except InvalidTargetError as exc:
        raise InvalidInputError({"secrets": [str(exc)]}) from exc


@transaction.atomic
def _save(
    config: NotificationConfig,
    notification_types: Iterable[str] | None,
    *,
    action: str,
    update_fields: set[str] | None = None,
) -> NotificationConfig:
    config.save(update_fields=update_fields)
    if notification_types is not None:
        wanted = {TYPES[name] for name in notification_types}
        config.subscriptions.exclude(type__in=wanted).delete()
        Subscription.objects.bulk_create(
            [Subscription(config=config, type=event_type) for event_type in sorted(wanted)], ignore_conflicts=True
        )
    _record(action, config)
    return config


def _record(action: str, config: NotificationConfig) -> None:
    """Tells the trail of a change; of the target it shows what answers show."""
    facts = audit.facts_of(config, ("name", "channel", "owner_id", "target_hint", "filters", "enabled"))
    audit.record(f"notification_config.{action}", config, after=facts)


@transaction.atomic
def rotate_secret(*, config: NotificationConfig) -> str:
    """Make a new secret and return it; the one before it goes on signing beside it, older ones end."""
    secret = webhook.new_secret()
    _set_secrets(config, [secret, *config.secrets[:1]])
    config.save(update_fields=["sealed_secrets", "updated_at"])
    _record("secret_rotated", config)
    return secret


@transaction.atomic
def enable(*, config: NotificationConfig) -> NotificationConfig:
    """Take the config into service again; what was suppressed meanwhile stays so until it is redelivered."""
    NotificationConfig.objects.filter(pk=config.pk, enabled=False).update(
        enabled=True, disabled_reason="", disabled_at=None, failures=0, paused_until=None, updated_at=timezone.now()
    )
    config.refresh_from_db()
    _record("enabled", config)
    return config


@transaction.atomic
def disable(*, config: NotificationConfig, reason: str = "by hand") -> NotificationConfig:
    """Stop telling it anything. What is owed to it is suppressed, with this reason."""
    deliveries.disable(config, reason=reason, now=timezone.now(), tell=False)
    config.refresh_from_db()
    _record("disabled", config)
    return config


@transaction.atomic
def delete_config(*, config: NotificationConfig) -> None:
    """Hide the config for good and forget its target and secrets; its ledger is kept."""
    now = timezone.now()
    deliveries.disable(config, reason="it was deleted", now=now, tell=False)
    NotificationConfig.objects.filter(pk=config.pk).update(deleted_at=now, sealed_target="", sealed_secrets="")
    _record("deleted", config)


# --- Deliveries -------------------------------------------------------------------------------------------


def send_test(*, config: NotificationConfig) -> Delivery:
    """Send a test message while the caller waits; what came of it is in the delivery and its attempt."""
    _require_enabled(config)
    now = timezone.now()
    with transaction.atomic():
        delivery = Delivery.objects.create(config=config, kind=Kind.TEST, created_at=now, due_at=now)
        # Claimed within the transaction that makes it, or a worker might come first.
        leased = deliveries.claim(config.pk, now=now, limit=1, only=delivery.pk)
    for one in leased:
        deliveries.carry_out(one)
    return Delivery.objects.select_related("config", "event").get(pk=delivery.pk)


def redeliver(*, delivery: Delivery) -> Delivery:
    """Put a settled delivery on the schedule again, from its start, under the message id that it has."""
    _require_enabled(delivery.config)
    if not _requeue(Delivery.objects.filter(pk=delivery.pk), now=timezone.now()):
        raise StillOwedError("The delivery is on the schedule already.", extra={"status": delivery.status})
    return Delivery.objects.select_related("config", "event").get(pk=delivery.pk)


def redeliver_range(
    *, config: NotificationConfig, since: datetime, until: datetime, statuses: Iterable[str] = (Status.FAILED,)
) -> int:
    """Put what became due to the config in that time, and has one of these statuses, on the schedule again."""
    _require_enabled(config)
    chosen = Delivery.objects.filter(
        config=config, created_at__gte=since, created_at__lt=until, status__in=list(statuses)
    ).exclude(kind__in=[Kind.TEST, Kind.CANARY])
    return _requeue(chosen, now=timezone.now())


def _require_enabled(config: NotificationConfig) -> None:
    if not config.enabled:
        raise ConfigDisabledError("The config is disabled: enable it first.", extra={"reason": config.disabled_reason})


def _requeue(chosen: DeliveryQuerySet, *, now: datetime) -> int:
    return chosen.filter(status__in=SETTLED).update(
        status=Status.PENDING, reason="redelivery was asked for", due_at=now, tries=0, finished_at=None
    )


def owe_canaries(*, now: datetime) -> int:
    """Owe a canary to each config that wants one and was not left with one; tell how many."""
    unanswered = Delivery.objects.filter(kind=Kind.CANARY, status=Status.PENDING)
    wanting = NotificationConfig.objects.alive().filter(enabled=True, is_canary=True)
    owed = [
        Delivery(config=config, kind=Kind.CANARY, created_at=now, due_at=now)
        for config in wanting.exclude(pk__in=unanswered.values("config_id"))
    ]
    return len(Delivery.objects.bulk_create(owed))


def forget(*, before: datetime, batch: int = 1000) -> int:
    """Delete what was settled before that moment; tell how many deliveries that were."""
    old = Delivery.objects.filter(finished_at__lt=before).values_list("pk", flat=True)
    total = 0
    while ids := list(old[:batch]):
        total += len(ids)
        Delivery.objects.filter(pk__in=ids).delete()
    return total


def reseal() -> int:
    """Encrypt every target and secret anew with the first of `SECRET_KEYS`; tell of how many configs."""
    count = 0
    for config in NotificationConfig.objects.alive().iterator():
        config.target, config.secrets = config.target, config.secrets
        config.save(update_fields=["sealed_target", "sealed_secrets"])
        count += 1
    return count


def overdue(*, now: datetime, limit: timedelta) -> int:
    """How many deliveries should have been taken up by now and were not."""
    return Delivery.objects.overdue(now, limit=limit).count()


def canary_arrived_at() -> datetime | None:
    """When the way of an alert was last seen to work, whoever got that canary."""
    arrived = Delivery.objects.filter(kind=Kind.CANARY, status=Status.DELIVERED)
    return arrived.order_by("-created_at").values_list("finished_at", flat=True).first()
