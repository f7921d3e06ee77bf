"""Credentials that a user gives out: API keys and tickets."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Q

from accounts.models.users import User


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def alive(self, now: datetime) -> ApiKeyQuerySet:
        return self.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now), revoked_at__isnull=True)


class ApiKey(models.Model):
    """Lets a program act for its user, with at most these scopes and on at most these workflows.

    Secrets are 256 random bits. Nobody can guess them, so a plain SHA-256 of each is enough.
    """

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=200)
    prefix = models.CharField(max_length=16, unique=True, help_text="The public part of the key.")
    digest = models.CharField(max_length=64, editable=False)
    previous_digest = models.CharField(max_length=64, blank=True, editable=False)
    previous_until = models.DateTimeField(
        null=True, blank=True, help_text="The secret before the last rotation is valid until then."
    )
    scopes = models.JSONField(default=list)
    workflow_ids = models.JSONField(
        null=True, blank=True, help_text="The key is valid for these workflows only; empty: for all."
    )
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="Exact to the minute.")
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        ordering = ["-created_at", "-id"]

    def __str__(self) -> str:
        return f"svops_{self.prefix}_…"


class TicketQuerySet(models.QuerySet["Ticket"]):
    def alive(self, now: datetime) -> TicketQuerySet:
        return self.filter(expires_at__gt=now, revoked_at__isnull=True)


class Ticket(models.Model):
    """Lets its holder do named actions with one run for a short while, with the rights of its user."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="tickets")
    api_key = models.ForeignKey(
        ApiKey,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="tickets",
        verbose_name="API key",
        help_text="The key that issued the ticket; the ticket ends with it.",
    )
    prefix = models.CharField(max_length=16, unique=True, help_text="The public part of the ticket.")
    digest = models.CharField(max_length=64, editable=False)
    workflow_id = models.BigIntegerField()
    run_id = models.UUIDField()
    actions = models.JSONField(default=list)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = TicketQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [models.Index("expires_at", name="ticket_by_expiry")]

    def __str__(self) -> str:
        return f"ticket {self.prefix}"
