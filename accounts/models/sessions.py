"""Browser sessions, with what their owner needs to recognise them, and the notices that accounts get by e-mail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models

from accounts.models.users import User

if TYPE_CHECKING:
    from accounts.sessions import SessionStore


class BrowserSession(AbstractBaseSession):
    """A session of Django. The columns repeat what its data say, so that a user's sessions can be found."""

    public_id = models.UUIDField(null=True, editable=False, help_text="Names the session without giving it away.")
    user = models.ForeignKey(User, on_delete=models.CASCADE, null=True, related_name="browser_sessions")
    created_at = models.DateTimeField(null=True)
    seen_at = models.DateTimeField(null=True)
    address = models.CharField(max_length=45, blank=True)
    device = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-seen_at"]

    def __str__(self) -> str:
        return f"session {self.public_id}"

    @classmethod
    def get_session_store_class(cls) -> type[SessionStore]:
        from accounts.sessions import SessionStore

        return SessionStore


class NoticeKind(models.TextChoices):
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a kind of notice
    EMAIL_CHANGED = "email_changed"
    API_KEY_CREATED = "api_key_created"
    API_KEY_ROTATED = "api_key_rotated"
    API_KEY_REVOKED = "api_key_revoked"
    FACTOR_ADDED = "factor_added"
    FACTOR_REMOVED = "factor_removed"
    RECOVERY_CODES_MADE = "recovery_codes"
    RECOVERY_CODE_USED = "recovery_used"


class Notice(models.Model):
    """An e-mail to the owner of an account that a credential has changed. Written in the transaction of the change."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="notices")
    kind = models.CharField(max_length=20, choices=NoticeKind)
    to = models.EmailField()
    detail = models.CharField(max_length=50, blank=True, help_text="The key, by its prefix.")
    address = models.CharField(max_length=45, blank=True)
    created_at = models.DateTimeField()
    next_try_at = models.DateTimeField(null=True, help_text="Empty when it was sent or given up.")
    attempts = models.PositiveSmallIntegerField(default=0)
    sent_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index("next_try_at", condition=models.Q(next_try_at__isnull=False), name="notice_due"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} to {self.to}"
