"""Configs and their types, deliveries, and each attempt to make them."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from rest.sealing import seal, unseal
from workflows import leases
from workflows.models import Event, Workflow

if TYPE_CHECKING:
    from accounts.models import User

MOST_IN_FLIGHT = 16


class NotificationConfigQuerySet(models.QuerySet["NotificationConfig"]):
    def alive(self) -> NotificationConfigQuerySet:
        return self.filter(deleted_at__isnull=True)

    def visible_to(self, user: User | AnonymousUser) -> NotificationConfigQuerySet:
        """Return the user's own configs, and for admins those for everyone too."""
        if not user.is_authenticated or not user.is_active:
            return self.none()
        mine = Q(owner=user)
        return self.alive().filter(mine | Q(owner__isnull=True) if user.is_superuser else mine)

    def ready(self, now: datetime) -> NotificationConfigQuerySet:
        """Return the configs that may get a message now."""
        unpaused = Q(paused_until__isnull=True) | Q(paused_until__lte=now)
        return self.alive().filter(unpaused, enabled=True)


class NotificationConfig(models.Model):
    """One address on one channel, and its types of events. Without an owner it is for everyone; admins manage it."""

    name = models.CharField(max_length=200)
    channel = models.CharField(max_length=20)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="notification_configs",
        help_text="Empty for everyone.",
    )
    sealed_target = models.TextField(blank=True, editable=False)
    target_hint = models.CharField(max_length=200, blank=True, editable=False, help_text="The target, masked.")
    sealed_secrets = models.TextField(blank=True, editable=False)
    filters = models.JSONField(default=dict, blank=True)
    enabled = models.BooleanField(default=True)
    disabled_reason = models.TextField(blank=True)
    disabled_at = models.DateTimeField(null=True, blank=True)
    fold_repeats = models.BooleanField(
        default=False, help_text="Repeats of a failure are sent as a digest, and its end is reported."
    )
    quiet_from = models.TimeField(null=True, blank=True)
    quiet_until = models.TimeField(null=True, blank=True)
    quiet_timezone = models.CharField(max_length=64, default="UTC")
    max_in_flight = models.PositiveSmallIntegerField(
        default=4,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_IN_FLIGHT)],
        help_text="Deliveries that may be under way at once.",
    )
    is_canary = models.BooleanField(default=False, help_text="It gets the canary, which proves that deliveries arrive.")
    failures = models.PositiveIntegerField(default=0, help_text="Failed tries since the last success.")
    paused_until = models.DateTimeField(null=True, blank=True, help_text="The receiver fails: no try before this.")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    deleted_at = models.DateTimeField(null=True, blank=True, help_text="Hidden since then. Its ledger is kept.")

    objects = NotificationConfigQuerySet.as_manager()

    class Meta:
        verbose_name = "notification config"
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name

    @property
    def target(self) -> str:
        """The decrypted target. Raises `UnsealableError`, like `secrets`."""
        return unseal(self.sealed_target) if self.sealed_target else ""

    @target.setter
    def target(self, value: str) -> None:
        self.sealed_target = seal(value)

    @property
    def secrets(self) -> list[str]:
        """The decrypted secrets, the newest first. Each of them signs."""
        return list(json.loads(unseal(self.sealed_secrets))) if self.sealed_secrets else []

    @secrets.setter
    def secrets(self, values: list[str]) -> None:
        self.sealed_secrets = seal(json.dumps(values)) if values else ""

    @property
    def notification_types(self) -> list[str]:
        return sorted({name_of(subscription.type) for subscription in self.subscriptions.all()})


class MailConsent(models.Model):
    """Whether a recipient of e-mail agrees to the mails of an owner. The row holds no address, only its digests."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        help_text="Empty for the configs for everyone.",
    )
    digest = models.CharField(max_length=64, editable=False)
    mailbox = models.CharField(max_length=64, db_index=True, editable=False)
    shown = models.CharField(max_length=320, help_text="The address, masked.")
    asked_at = models.DateTimeField(null=True, blank=True, help_text="When the last link was sent.")
    link_due_at = models.DateTimeField(null=True, blank=True, editable=False, help_text="When a link is sent next.")
    link_tries = models.PositiveSmallIntegerField(default=0, editable=False)
    confirmed_at = models.DateTimeField(null=True, blank=True)
    refused_at = models.DateTimeField(null=True, blank=True, help_text="Nobody may ask this mailbox again.")

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint("owner", "digest", name="mail_consent_of_owner"),
            models.UniqueConstraint("digest", condition=Q(owner__isnull=True), name="mail_consent_of_everyone"),
        ]
        indexes = [models.Index("link_due_at", condition=Q(link_due_at__isnull=False), name="mail_link_due")]

    def __str__(self) -> str:
        return self.shown


def name_of(event_type: str) -> str:
    """Return the notification type of an event type: `workflow_failed` for `workflow.failed`."""
    return event_type.replace(".", "_", 1)


LONGEST_SUBJECT = 120


class Subscription(models.Model):
    """A type of event that a config subscribes to, for a subject such as `workflow:3`. An index finds it by both.

    `notifications.rules.subjects` makes the subjects from the filters of the config.
    """

    config = models.ForeignKey(NotificationConfig, on_delete=models.CASCADE, related_name="subscriptions")
    type = models.CharField(max_length=40)
    subject = models.CharField(
        max_length=LONGEST_SUBJECT,
        blank=True,
        default="",
        db_default="",
        help_text="Empty for every event of the type.",
    )

    class Meta:
        ordering = ["type", "subject"]
        constraints = [models.UniqueConstraint("config", "type", "subject", name="subscription_unique_for_subject")]
        indexes = [models.Index(fields=["type", "subject"], name="subscription_by_subject")]

    def __str__(self) -> str:
        return self.type


class Episode(models.Model):
    """A failure that was reported and goes on: the same tasks of the same workflow keep failing."""

    config = models.ForeignKey(NotificationConfig, on_delete=models.CASCADE, related_name="episodes")
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=300, blank=True, help_text="The failed tasks.")
    failures = models.PositiveIntegerField(default=0)
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-opened_at"]
        constraints = [
            models.UniqueConstraint(
                "config", "workflow", "key", condition=Q(closed_at__isnull=True), name="episode_open_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.workflow_id}: {self.key or 'no task'}"


class Kind(models.TextChoices):
    EVENT = "event"
    DIGEST = "digest"  # the repeats of a failure
    RECOVERY = "recovery"  # the success that ends an episode
    TEST = "test"
    CANARY = "canary"


class Status(models.TextChoices):
    PENDING = "pending"
    HELD = "held"  # recorded in quiet hours, sent after them
    FOLDED = "folded"  # counted in a digest
    DELIVERED = "delivered"
    FAILED = "failed"  # given up; `reason` says why
    SUPPRESSED = "suppressed"  # never sent; `reason` says why


WAITING = (Status.PENDING, Status.HELD)


def new_message_id() -> str:
    return f"msg_{uuid.uuid4().hex}"


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def free(self, now: datetime) -> DeliveryQuerySet:
        """Return the due deliveries that nobody holds."""
        return self.filter(leases.free(now), status__in=WAITING, due_at__lte=now)

    def claimable(self, now: datetime) -> DeliveryQuerySet:
        """Return the free deliveries whose event is published: before that, the envelope has no `id`."""
        return self.free(now).filter(Q(event__isnull=True) | Q(event__position__isnull=False))

    def overdue(self, now: datetime, *, limit: timedelta) -> DeliveryQuerySet:
        """Return the deliveries that are free and due for longer than `limit`, unless their receiver fails."""
        waits_for_receiver = Q(config__failures__gt=0) | Q(config__enabled=False)
        return self.filter(leases.free(now), status__in=WAITING, due_at__lt=now - limit).exclude(waits_for_receiver)


class Delivery(models.Model):
    """One message for one config. It is sent at least once, and is exactly one row."""

    message_id = models.CharField(max_length=40, unique=True, default=new_message_id, editable=False)
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.EVENT)
    event = models.ForeignKey(Event, on_delete=models.CASCADE, null=True, blank=True, related_name="deliveries")
    config = models.ForeignKey(NotificationConfig, on_delete=models.CASCADE, related_name="deliveries")
    episode = models.ForeignKey(Episode, on_delete=models.SET_NULL, null=True, blank=True, related_name="deliveries")
    digest = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="folded")
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    reason = models.TextField(blank=True, help_text="Why it is not delivered.")
    due_at = models.DateTimeField(help_text="Not sent before this. Each failed try moves it.")
    leased_until = models.DateTimeField(null=True, blank=True, help_text="While a worker makes an attempt.")
    leased_by = models.CharField(max_length=32, blank=True)
    attempts_made = models.PositiveIntegerField(default=0)
    tries = models.PositiveIntegerField(default=0, help_text="Attempts since it was last scheduled.")
    recipients = models.JSONField(
        default=list,
        blank=True,
        help_text="For e-mail: which recipients accepted it, which refused, which are waiting.",
    )
    folded_count = models.PositiveIntegerField(default=0, help_text="How many deliveries a digest counts.")
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "deliveries"
        ordering = ["-created_at", "-id"]
        constraints = [models.UniqueConstraint("event", "config", name="delivery_once_per_config")]
        indexes = [
            # Not partial on the status: SQLite uses no partial index for a status that is bound as a parameter.
            models.Index(fields=["config", "status", "due_at"], name="delivery_owed_to"),
            models.Index(fields=["status", "due_at"], name="delivery_due"),
            models.Index(
                fields=["config", "leased_until"], condition=Q(leased_until__isnull=False), name="delivery_leased"
            ),
            models.Index(fields=["config", "-created_at", "-id"], name="delivery_by_config"),
            models.Index(fields=["-created_at", "-id"], name="delivery_by_time"),
        ]

    def __str__(self) -> str:
        return self.message_id


class Outcome(models.TextChoices):
    RUNNING = "running"
    DELIVERED = "delivered"
    FAILED = "failed"  # may work later
    REFUSED = "refused"  # cannot work later
    LOST = "lost"  # its worker died before it recorded a result


class Attempt(models.Model):
    """One try. It is written before the try, so the ledger also shows a try that a crash ended."""

    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    outcome = models.CharField(max_length=10, choices=Outcome, default=Outcome.RUNNING)
    started_at = models.DateTimeField()
    duration_ms = models.PositiveIntegerField(null=True, blank=True)
    status_code = models.PositiveIntegerField(null=True, blank=True)
    error = models.TextField(blank=True)
    response_excerpt = models.TextField(blank=True)

    class Meta:
        ordering = ["delivery", "number"]
        constraints = [models.UniqueConstraint("delivery", "number", name="attempt_number_unique")]

    def __str__(self) -> str:
        return f"{self.delivery_id}/{self.number}"
