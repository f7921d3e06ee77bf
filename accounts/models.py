"""Who may come in, and as what."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser
from django.contrib.auth.models import UserManager as DjangoUserManager
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.crypto import salted_hmac


class Role(models.TextChoices):
    VIEWER = "viewer"  # reads
    USER = "user"  # triggers and controls too
    ADMIN = "admin"  # everything, the admin pages included


class UserManager(DjangoUserManager["User"]):
    use_in_migrations = False

    def create_superuser(
        self, username: str, email: str | None = None, password: str | None = None, **extra_fields: Any
    ) -> User:
        """Django's, for `createsuperuser`; here a superuser is one whose role is admin."""
        extra_fields["role"] = Role.ADMIN
        return super().create_superuser(username, email, password, **extra_fields)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """To what the credentials of the moment narrow their user; None does not narrow."""

    workflow_ids: frozenset[int] | None = None
    run_id: uuid.UUID | None = None


UNBOUNDED = Bounds()


class User(AbstractUser):
    """Somebody, or some program, with a role.

    `role` is the truth; `is_staff` and `is_superuser` follow it, for Django's admin and its queries.
    """

    first_name = None  # type: ignore[assignment]  # one `name` takes the place of both
    last_name = None  # type: ignore[assignment]
    name = models.CharField(max_length=150, blank=True)
    email = models.EmailField("email address")
    role = models.CharField(max_length=10, choices=Role, default=Role.USER)
    credential_version = models.PositiveIntegerField(
        default=0, editable=False, help_text="Going up ends every session and token there is."
    )

    # Not stored. Set by authentication on the user of an API key or a ticket, so that whatever asks
    # `visible_to(user)` is narrowed with them and nothing has to remember to.
    bounds: Bounds = UNBOUNDED

    objects: ClassVar[UserManager] = UserManager()

    class Meta:
        ordering = ["id"]
        constraints = [
            # Two names that differ only in case would be taken for one another.
            models.UniqueConstraint(Lower("username"), name="user_username_unique"),
            # Accounts of programs, made in code, may have no address.
            models.UniqueConstraint(Lower("email"), condition=~Q(email=""), name="user_email_unique"),
            models.CheckConstraint(
                condition=Q(role=Role.ADMIN, is_staff=True, is_superuser=True)
                | (~Q(role=Role.ADMIN) & Q(is_staff=False, is_superuser=False)),
                name="user_admin_is_superuser",
            ),
        ]

    def save(self, *args: Any, update_fields: Iterable[str] | None = None, **kwargs: Any) -> None:
        self.is_staff = self.is_superuser = self.role == Role.ADMIN
        if update_fields is not None and "role" in update_fields:
            update_fields = {*update_fields, "is_staff", "is_superuser"}
        super().save(*args, update_fields=update_fields, **kwargs)

    def get_full_name(self) -> str:
        return self.name or self.username

    def get_short_name(self) -> str:
        return self.get_full_name()

    def _get_session_auth_hash(self, secret: str | bytes | None = None) -> str:
        """What sessions and sign-ins are bound to, as Django's, but with the version in it.

        A new password or a raised `credential_version` ends them all.
        """
        value = f"{self.credential_version}:{self.password}"
        return salted_hmac("accounts.User.session", value, secret=secret, algorithm="sha256").hexdigest()


class Identity(models.Model):
    """Whom an identity provider calls `subject`: the only thing by which a sign-in of theirs finds its user.

    Names and addresses do not count: they change hands, and some providers let people choose them.
    """

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="identities")
    issuer = models.CharField(max_length=255, help_text="OIDC_ISSUER, to the letter.")
    subject = models.CharField(max_length=255, help_text="The claim `sub`: the provider's own name for the person.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "identities"
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["issuer", "subject"], name="identity_unique")]

    def __str__(self) -> str:
        return f"{self.subject} at {self.issuer}"


class EndReason(models.TextChoices):
    LOGOUT = "logout"
    REUSE = "reuse"  # a refresh token was presented twice: one of the two holders has stolen it
    REVOKED = "revoked"


class SignInQuerySet(models.QuerySet["SignIn"]):
    def open(self) -> SignInQuerySet:
        return self.filter(ended_at__isnull=True)


class SignIn(models.Model):
    """One sign-in through the API: the family of refresh tokens that follow each other, one alive at a time.

    Access tokens name it, so that ending it ends them at once. No token is stored.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sign_ins")
    refresh_jti = models.CharField(max_length=32, help_text="The id of the refresh token that is alive.")
    auth_hash = models.CharField(max_length=64, help_text="The user's session hash that this is bound to.")
    created_at = models.DateTimeField()
    refreshed_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
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
        """Whether its user's password and credential version are still those that it began with."""
        return self.auth_hash == self.user.get_session_auth_hash()


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def alive(self, now: datetime) -> ApiKeyQuerySet:
        return self.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now), revoked_at__isnull=True)


class ApiKey(models.Model):
    """How a program acts for its user: with these scopes at most, and on these workflows at most.

    Secrets are 256 random bits, so that their plain SHA-256 can be kept: there is nothing to guess from.
    """

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=200)
    prefix = models.CharField(max_length=16, unique=True, help_text="The part of it that is no secret.")
    digest = models.CharField(max_length=64, editable=False)
    previous_digest = models.CharField(max_length=64, blank=True, editable=False)
    previous_until = models.DateTimeField(
        null=True, blank=True, help_text="Until then the secret before the last rotation is good too."
    )
    scopes = models.JSONField(default=list)
    workflow_ids = models.JSONField(null=True, blank=True, help_text="For these workflows alone; empty: for all.")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="To the minute.")
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
    """Lets whoever holds it do named things with one run for a short while, as its user could."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="tickets")
    api_key = models.ForeignKey(
        ApiKey,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="tickets",
        verbose_name="API key",
        help_text="With which it was issued; it ends with that one.",
    )
    prefix = models.CharField(max_length=16, unique=True, help_text="The part of it that is no secret.")
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


class AuditEntryQuerySet(models.QuerySet["AuditEntry"]):
    """Adds and reads; the trail is never changed."""

    def update(self, **changes: Any) -> int:
        raise TypeError("the audit trail is append-only")

    def delete(self) -> tuple[int, dict[str, int]]:
        raise TypeError("the audit trail is append-only")


class AuditEntry(models.Model):
    """Who did what. Names are kept beside ids and there are no foreign keys: it outlives what it tells of."""

    # What the hash is over.
    SEALED = (
        "at", "actor_id", "actor", "via", "credential", "action", "object_type", "object_id", "object_name", "before",
        "after", "address", "request_id",
    )  # fmt: skip

    position = models.PositiveBigIntegerField(
        null=True, unique=True, editable=False, help_text="Its place in the chain; given after the commit."
    )
    hash = models.CharField(max_length=64, blank=True, editable=False, help_text="Over this row and the one before.")
    at = models.DateTimeField()
    actor_id = models.BigIntegerField(null=True, help_text="Empty: the platform itself, or a command.")
    actor = models.CharField(max_length=150, blank=True)
    via = models.CharField(max_length=10, help_text="How they came: token, session, api_key, ticket, command.")
    credential = models.CharField(max_length=50, blank=True, help_text="Which API key or ticket, by its prefix.")
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

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.pk is not None:
            raise TypeError("the audit trail is append-only")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise TypeError("the audit trail is append-only")


class AuditHead(models.Model):
    """The one row whose lock makes sealers take turns: the end of the chain."""

    position = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64, blank=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(pk=1), name="one_audit_head")]

    def __str__(self) -> str:
        return str(self.position)
