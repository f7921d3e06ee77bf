"""Sign-ins through the API."""

from __future__ import annotations

import uuid

from django.db import models

from accounts.models.users import User


class EndReason(models.TextChoices):
    LOGOUT = "logout"
    REUSE = "reuse"  # a refresh token was presented twice: one of the two holders has stolen it
    REVOKED = "revoked"


class SignInQuerySet(models.QuerySet["SignIn"]):
    def open(self) -> SignInQuerySet:
        return self.filter(ended_at__isnull=True)


class SignIn(models.Model):
    """One sign-in through the API: a family of refresh tokens that follow each other, one alive at a time.

    Access tokens name their sign-in, so ending it ends them at once. No token is stored.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sign_ins")
    refresh_jti = models.CharField(max_length=32, help_text="The id of the refresh token that is alive.")
    auth_hash = models.CharField(max_length=64, help_text="The session hash of the user when the sign-in began.")
    created_at = models.DateTimeField()
    refreshed_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    address = models.CharField(max_length=45, blank=True, help_text="Of the last refresh.")
    device = models.CharField(max_length=200, blank=True, help_text="The program, as it names itself.")
    end_reason = models.CharField(max_length=10, choices=EndReason, blank=True)

    objects = SignInQuerySet.as_manager()

    class Meta:
        verbose_name = "sign-in"
        ordering = ["-created_at"]
        indexes = [models.Index("expires_at", name="sign_in_by_expiry")]

    def __str__(self) -> str:
        return f"sign-in {self.pk}"

    @property
    def is_bound(self) -> bool:
        """Whether the user's password and credential version are the same as when the sign-in began."""
        return self.auth_hash == self.user.get_session_auth_hash()
