"""Create, change, enable, disable and delete configs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import time
from typing import TYPE_CHECKING, TypedDict, Unpack

from django.db import transaction
from django.utils import timezone

from accounts import audit
from notifications import attempts, rules, settlement
from notifications.models import NotificationConfig, Subscription, name_of
from notifications.services import links
from notifications.transports import CHANNELS, webhook
from notifications.transports.base import InvalidTargetError
from rest.errors import FieldNotAllowedError, InvalidInputError
from workflows.eventlog.events import CATALOGUE

if TYPE_CHECKING:
    from accounts.models import User

TYPES: dict[str, str] = {name_of(event_type): event_type for event_type in CATALOGUE}
MOST_SECRETS = 5


class Options(TypedDict, total=False):
    """What has a default when a config is created."""

    filters: rules.Filters
    fold_repeats: bool
    quiet_from: time | None
    quiet_until: time | None
    quiet_timezone: str
    max_in_flight: int
    is_canary: bool


class Changes(Options, total=False):
    """What can be changed later."""

    name: str
    owner: User | None


def create_config(
    *,
    actor: User,
    name: str,
    channel: str,
    target: str | Sequence[str],
    notification_types: Iterable[str],
    for_everyone: bool = False,
    enabled: bool = True,
    secrets: Sequence[str] | None = None,
    **options: Unpack[Options],
) -> NotificationConfig:
    """Create a config that belongs to the actor, or to all admins if it is for everyone.

    Raises `InvalidInputError` if the target is malformed or must not be reached, and `FieldNotAllowedError` if somebody
    who is not an admin asks for a config for everyone.
    """
    if for_everyone and not actor.is_superuser:
        raise FieldNotAllowedError("for_everyone", "Only admins may create a notification config for everyone.")
    transport = CHANNELS[channel]
    owner = None if for_everyone else actor
    config = NotificationConfig(name=name, channel=channel, owner=owner, enabled=enabled)
    _apply({"fold_repeats": transport.for_people, **options}, to=config)
    _retarget(config, target)
    if transport.takes_secrets or secrets:
        _set_secrets(config, secrets or [webhook.new_secret()])
    _save(config, notification_types, action="created", asks=True)
    return config


def update_config(
    *,
    config: NotificationConfig,
    target: str | Sequence[str] | None = None,
    notification_types: Iterable[str] | None = None,
    enabled: bool | None = None,
    secrets: Sequence[str] | None = None,
    **changes: Unpack[Changes],
) -> NotificationConfig:
    """Change what is given. Raises the same errors as `create_config`."""
    _apply(changes, to=config)
    changed: set[str] = {*changes, "updated_at"}
    if target is not None:
        _retarget(config, target)
        changed |= {"sealed_target", "target_hint", "failures", "paused_until"}
    if secrets is not None:
        _set_secrets(config, secrets)
        changed.add("sealed_secrets")
    # Save only what was changed: workers write to the same row.
    _save(config, notification_types, update_fields=changed, action="changed", asks=target is not None)
    if enabled is not None:
        enable(config=config) if enabled else disable(config=config)
    return NotificationConfig.objects.select_related("owner").get(pk=config.pk)


def _apply(values: Options | Changes, *, to: NotificationConfig) -> None:
    for name, value in values.items():
        setattr(to, name, value)


def _retarget(config: NotificationConfig, target: str | Sequence[str]) -> None:
    transport = CHANNELS[config.channel]
    try:
        config.target = cleaned = transport.clean(target, attempts.client())
    except InvalidTargetError as exc:
        raise InvalidInputError({transport.field: [str(exc)]}) from exc
    config.target_hint = transport.mask(cleaned)[:200]
    # The failures so far were those of another receiver.
    config.failures, config.paused_until = 0, None


def _set_secrets(config: NotificationConfig, secrets: Sequence[str]) -> None:
    if not CHANNELS[config.channel].takes_secrets:
        raise InvalidInputError({"secrets": [f"The channel {config.channel} does not sign messages."]})
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
    asks: bool,
    update_fields: set[str] | None = None,
) -> NotificationConfig:
    config.save(update_fields=update_fields)
    if asks and config.channel == "email":
        links.ask_recipients(config=config)
    _subscribe(config, notification_types)
    _record(action, config)
    return config


def _subscribe(config: NotificationConfig, notification_types: Iterable[str] | None) -> None:
    """Let the subscriptions follow the types and the filters. Without types, those so far remain.

    The config's row is locked by now. So the filters are read again: another change may have come before.
    """
    filters = NotificationConfig.objects.values_list("filters", flat=True).get(pk=config.pk)
    stored = {(row.type, row.subject): row.pk for row in config.subscriptions.all()}
    types = {kind for kind, _ in stored} if notification_types is None else {TYPES[name] for name in notification_types}
    wanted = {(kind, subject) for kind in types for subject in rules.subjects(filters)}
    Subscription.objects.filter(pk__in=[pk for key, pk in stored.items() if key not in wanted]).delete()
    Subscription.objects.bulk_create(
        Subscription(config=config, type=kind, subject=subject) for kind, subject in sorted(wanted - stored.keys())
    )


def _record(action: str, config: NotificationConfig) -> None:
    """Add the change to the audit trail. The target is masked there as in answers."""
    facts = audit.facts_of(config, ("name", "channel", "owner_id", "target_hint", "filters", "enabled"))
    audit.record(f"notification_config.{action}", config, after=facts)


@transaction.atomic
def rotate_secret(*, config: NotificationConfig) -> str:
    """Create a new secret and return it. The newest one so far goes on signing beside it; older ones end."""
    secret = webhook.new_secret()
    _set_secrets(config, [secret, *config.secrets[:1]])
    config.save(update_fields=["sealed_secrets", "updated_at"])
    _record("secret_rotated", config)
    return secret


@transaction.atomic
def enable(*, config: NotificationConfig) -> NotificationConfig:
    """Send to the config again. What was suppressed meanwhile stays suppressed until it is redelivered."""
    NotificationConfig.objects.filter(pk=config.pk, enabled=False).update(
        enabled=True, disabled_reason="", disabled_at=None, failures=0, paused_until=None, updated_at=timezone.now()
    )
    config.refresh_from_db()
    _record("enabled", config)
    return config


@transaction.atomic
def disable(*, config: NotificationConfig, reason: str = "by hand") -> NotificationConfig:
    """Stop sending to the config, and suppress its waiting deliveries with this reason."""
    settlement.disable(config, reason=reason, now=timezone.now(), report=False)
    config.refresh_from_db()
    _record("disabled", config)
    return config


@transaction.atomic
def delete_config(*, config: NotificationConfig) -> None:
    """Hide the config for good and forget its target and secrets. Its ledger is kept."""
    now = timezone.now()
    settlement.disable(config, reason="it was deleted", now=now, report=False)
    NotificationConfig.objects.filter(pk=config.pk).update(deleted_at=now, sealed_target="", sealed_secrets="")
    _record("deleted", config)


def reseal() -> int:
    """Encrypt every target and secret again, with the first of `SECRET_KEYS`; return how many configs that were."""
    count = 0
    for config in NotificationConfig.objects.alive().iterator():
        config.target, config.secrets = config.target, config.secrets
        config.save(update_fields=["sealed_target", "sealed_secrets"])
        count += 1
    return count
