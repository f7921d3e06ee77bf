"""The audit trail and the end of its chain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Never

from django.db import models
from django.db.models import Q
from django.db.models.base import ModelBase


class AuditEntryQuerySet(models.QuerySet["AuditEntry"]):
    """Adds and reads rows; refuses to change or delete them."""

    def update(self, **changes: object) -> Never:
        raise TypeError("the audit trail is append-only")

    def delete(self) -> Never:
        raise TypeError("the audit trail is append-only")


class AuditEntry(models.Model):
    """Who did what. The row outlives its objects: it keeps names beside ids and has no foreign keys."""

    # The hash covers these fields.
    SEALED = (
        "at", "actor_id", "actor", "via", "credential", "action", "object_type", "object_id", "object_name", "before",
        "after", "address", "request_id",
    )  # fmt: skip

    position = models.PositiveBigIntegerField(
        null=True, unique=True, editable=False, help_text="The place in the chain, given after the commit."
    )
    hash = models.CharField(
        max_length=64, blank=True, editable=False, help_text="Covers this row and the hash of the row before."
    )
    at = models.DateTimeField()
    actor_id = models.BigIntegerField(null=True, help_text="Empty for the platform itself and for commands.")
    actor = models.CharField(max_length=150, blank=True)
    via = models.CharField(
        max_length=10, help_text="How the actor came in: token, session, api_key, ticket, command or none."
    )
    credential = models.CharField(max_length=50, blank=True, help_text="The API key or the ticket, by its prefix.")
    action = models.CharField(max_length=50)
    object_type = models.CharField(max_length=100)
    object_id = models.CharField(max_length=64)
    object_name = models.CharField(max_length=250, blank=True)
    before = models.JSONField(null=True, blank=True)
    after = models.JSONField(null=True, blank=True)
    address = models.CharField(max_length=45, blank=True)
    request_id = models.CharField(max_length=64, blank=True)

    objects = AuditEntryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "audit entries"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["object_type", "object_id", "-id"], name="audit_by_object"),
            models.Index(fields=["actor_id", "-id"], name="audit_by_actor"),
            models.Index(fields=["id"], condition=Q(position__isnull=True), name="audit_unsealed"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.object_name}"

    def save(
        self,
        force_insert: bool | tuple[ModelBase, ...] = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        if self.pk is not None:
            raise TypeError("the audit trail is append-only")
        super().save(force_insert=force_insert, force_update=force_update, using=using, update_fields=update_fields)

    def delete(self, using: str | None = None, keep_parents: bool = False) -> Never:
        raise TypeError("the audit trail is append-only")


class AuditHead(models.Model):
    """The end of the chain: a single row whose lock makes sealers take turns."""

    position = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64, blank=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(pk=1), name="one_audit_head")]

    def __str__(self) -> str:
        return str(self.position)
