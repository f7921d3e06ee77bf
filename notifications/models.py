"""Who wants to hear of what, what is owed to them, and each try to tell them."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from notifications.sealing import seal, unseal
from workflows.models import Event, Workflow

if TYPE_CHECKING:
    from accounts.models import User

MOST_IN_FLIGHT = 16


class NotificationConfigQuerySet(models.QuerySet["NotificationConfig"]):
    def alive(self) -> NotificationConfigQuerySet:
        return self.filter(deleted_at__isnull=True)

    def visible_to(self, user: User | AnonymousUser) -> NotificationConfigQuerySet:
        """One's own, and for admins those for everyone too."""
        if not user.is_authenticated or not user.is_active:
            return self.none()
        mine = Q(owner=user)
        return self.alive().filter(mine | Q(owner__isnull=True) if user.is_superuser else mine)

    def ready(self, now: datetime) -> NotificationConfigQuerySet:
        """Those that may be sent to right now."""
        unpaused = Q(paused_until__isnull=True) | Q(paused_until__lte=now)
        return self.alive().filter(unpaused, enabled=True)


class NotificationConfig(models.Model):
    """One address of one channel, and what is told there. Without an owner it is for everyone, and the admins'."""

    name = models.CharField(max_length=200)
    channel = models.CharField(max_length=20)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="notification_configs",
        help_text="Empty: for everyone.",
    )
    sealed_target = models.TextField(blank=True, editable=False)
    target_hint = models.CharField(max_length=200, blank=True, editable=False, help_text="The target, masked.")
    sealed_secrets = models.TextField(blank=True, editable=False)
    filters = models.JSONField(default=dict, blank=True)
    enabled = models.BooleanField(default=True)
    disabled_reason = models.TextField(blank=True)
    disabled_at = models.DateTimeField(null=True, blank=True)
    fold_repeats = models.BooleanField(
        default=False, help_text="Repeats of one failure become a digest, and its end is told."
    )
    quiet_from = models.TimeField(null=True, blank=True)
    quiet_until = models.TimeField(null=True, blank=True)
    quiet_timezone = models.CharField(max_length=64, default="UTC")
    max_in_flight = models.PositiveSmallIntegerField(
        default=4,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_IN_FLIGHT)],
        help_text="Deliveries under way at once.",
    )
    is_canary = models.BooleanField(default=False, help_text="It gets the canary, which proves the way to it.")
    failures = models.PositiveIntegerField(default=0, help_text="Tries that failed since the last that did not.")
    paused_until = models.DateTimeField(null=True, blank=True, help_text="Its receiver fails: one try after this.")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    deleted_at = models.DateTimeField(null=True, blank=True, help_text="Hidden since; its ledger is kept.")

    objects = NotificationConfigQuerySet.as_manager()

    class Meta:
        verbose_name = "notification config"
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name

    @property
    def target(self) -> str:
        """Raises `UnsealableError`, as does `secrets`."""
        return unseal(self.sealed_target) if self.sealed_target else ""

    @target.setter
    def target(self, value: str) -> None:
        self.sealed_target = seal(value)

    @property
    def secrets(self) -> list[str]:
        """The newest first; each of them signs."""
        return list(json.loads(unseal(self.sealed_secrets))) if self.sealed_secrets else []

    @secrets.setter
    def secrets(self, values: list[str]) -> None:
        self.sealed_secrets = seal(json.dumps(values)) if values else ""

    @property
    def notification_types(self) -> list[str]:
        return sorted(name_of(subscription.type) for subscription in self.subscriptions.all())


def name_of(event_type: str) -> str:
    """`workflow.failed` as users write it: `workflow_failed`."""
    return event_type.replace(".", "_", 1)


class Subscription(models.Model):
    """A type of event that a config wants. Rows, because most events concern nobody: that has to be cheap to see."""

    config = models.ForeignKey(NotificationConfig, on_delete=models.CASCADE, related_name="subscriptions")
    type = models.CharField(max_length=40, db_index=True)

    class Meta:
        ordering = ["type"]
        constraints = [models.UniqueConstraint("config", "type", name="subscription_unique")]

    def __str__(self) -> str:
        return self.type


class Episode(models.Model):
    """A failure that was told of and is not over: the same tasks of the same workflow keep failing."""

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
    DIGEST = "digest"  # repeats of a failure, told together
    RECOVERY = "recovery"  # the success that ends an episode
    TEST = "test"
    CANARY = "canary"


class Status(models.TextChoices):
    PENDING = "pending"
    HELD = "held"  # recorded in quiet hours, sent after them
    FOLDED = "folded"  # told of in a digest
    DELIVERED = "delivered"
    FAILED = "failed"  # given up; `reason` says why
    SUPPRESSED = "suppressed"  # never sent; `reason` says why


OWED = (Status.PENDING, Status.HELD)


def new_message_id() -> str:
    return f"msg_{uuid.uuid4().hex}"


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def free(self, now: datetime) -> DeliveryQuerySet:
        """Due, and in nobody's hands."""
        unleased = Q(leased_until__isnull=True) | Q(leased_until__lt=now)
        return self.filter(unleased, status__in=OWED, due_at__lte=now)

    def claimable(self, now: datetime) -> DeliveryQuerySet:
        """Free, and its event published: what is told has to have its place in the log."""
        return self.free(now).filter(Q(event__isnull=True) | Q(event__position__isnull=False))

    def overdue(self, now: datetime, *, limit: timedelta) -> DeliveryQuerySet:
        """Owed and due for longer than `limit`, in nobody's hands, and not because their own receiver fails."""
        free = Q(leased_until__isnull=True) | Q(leased_until__lt=now)
        waits_for_receiver = Q(config__failures__gt=0) | Q(config__enabled=False)
        return self.filter(free, status__in=OWED, due_at__lt=now - limit).exclude(waits_for_receiver)


class Delivery(models.Model):
    """One thing owed to one config: at least once on the wire, exactly once here."""

    message_id = models.CharField(max_length=40, unique=True, default=new_message_id, editable=False)
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.EVENT)
    event = models.ForeignKey(Event, on_delete=models.CASCADE, null=True, blank=True, related_name="deliveries")
    config = models.ForeignKey(NotificationConfig, on_delete=models.CASCADE, related_name="deliveries")
    episode = models.ForeignKey(Episode, on_delete=models.SET_NULL, null=True, blank=True, related_name="deliveries")
    digest = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="folded")
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    reason = models.TextField(blank=True, help_text="Why it is not simply delivered.")
    due_at = models.DateTimeField(help_text="Not before; moved on by each failed try.")
    leased_until = models.DateTimeField(null=True, blank=True, help_text="While somebody makes a try.")
    leased_by = models.CharField(max_length=32, blank=True)
    attempts_made = models.PositiveIntegerField(default=0)
    tries = models.PositiveIntegerField(default=0, help_text="Attempts since it was last put on the schedule.")
    folded_count = models.PositiveIntegerField(default=0, help_text="Of a digest: what is told in it.")
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "deliveries"
        ordering = ["-created_at", "-id"]
        constraints = [models.UniqueConstraint("event", "config", name="delivery_once_per_config")]
        indexes = [
            # Whole, not partial on the status: SQLite uses no partial index for a status that is bound as a parameter.
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
    REFUSED = "refused"  # will not work later
    LOST = "lost"  # who made it was gone before it could say what came of it


class Attempt(models.Model):
    """One try. It is written before the try, so that one cut short by a crash shows too."""

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

    def facts(self) -> dict[str, Any]:
        """For log lines: ids and numbers, nothing of what was sent or answered."""
        return {"delivery_id": self.delivery_id, "attempt": self.number, "outcome": self.outcome}
