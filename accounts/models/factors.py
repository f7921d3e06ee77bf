"""The second factor of a user: an authenticator app, and recovery codes for when it is lost."""

from __future__ import annotations

from django.db import models

from accounts.models.users import User


class SecondFactor(models.Model):
    """The secret that the user's authenticator app shares with SVOps. It counts once a code has confirmed it."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="second_factor")
    sealed_secret = models.TextField(editable=False)
    confirmed_at = models.DateTimeField(null=True)
    last_step = models.BigIntegerField(default=0, help_text="The 30 s step of the last code; no code works twice.")

    def __str__(self) -> str:
        return f"second factor of {self.user}"


class RecoveryCode(models.Model):
    """Signs in once in place of a code of the app. 80 random bits: a plain SHA-256 is enough."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="recovery_codes")
    digest = models.CharField(max_length=64, editable=False)
    used_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "digest"], name="recovery_code_unique")]

    def __str__(self) -> str:
        return f"recovery code of {self.user}"
