"""Users, and the identities by which a provider knows them."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from django.contrib.auth.models import AbstractUser
from django.contrib.auth.models import UserManager as DjangoUserManager
from django.db import models
from django.db.models import Q
from django.db.models.base import ModelBase
from django.db.models.functions import Lower
from django.utils.crypto import salted_hmac

from accounts.names import digests


class Role(models.TextChoices):
    VIEWER = "viewer"  # reads
    USER = "user"  # triggers and controls too
    ADMIN = "admin"  # everything, the admin pages included


class UserManager(DjangoUserManager["User"]):
    use_in_migrations = False

    def create_superuser(  # type: ignore[override]  # the role takes the place of Django's `extra_fields`
        self, username: str, email: str | None = None, password: str | None = None, *, name: str = ""
    ) -> User:
        """Create a user with the role admin, for Django's `createsuperuser`."""
        return super().create_superuser(username, email, password, name=name, role=Role.ADMIN)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The workflows and the run that a credential restricts its user to; None means no restriction."""

    workflow_ids: frozenset[int] | None = None
    run_id: uuid.UUID | None = None


UNBOUNDED = Bounds()


class User(AbstractUser):
    """A person or a program, with a role.

    `role` is the truth; `is_staff` and `is_superuser` follow it, for Django's admin and its queries.
    """

    first_name = None  # type: ignore[assignment]  # one `name` takes the place of both
    last_name = None  # type: ignore[assignment]
    name = models.CharField(max_length=150, blank=True)
    email = models.EmailField("email address")
    email_confirmed = models.BooleanField(
        default=True,
        editable=False,
        help_text="Whether an administrator, the provider or code gave the address. False: the user chose it.",
    )
    role = models.CharField(max_length=10, choices=Role, default=Role.USER)
    second_factor_at = models.DateTimeField(
        null=True, editable=False, help_text="Since when the user has a second factor; empty without one."
    )
    credential_version = models.PositiveIntegerField(
        default=0, editable=False, help_text="An increase ends every session and token of the user."
    )

    # How the username looks, see `accounts.names`. Empty if it looked like an older one before this was compared.
    name_digest = models.CharField(max_length=64, null=True, editable=False)  # noqa: DJ001 - many may have none
    cased_name_digest = models.CharField(max_length=64, null=True, editable=False, db_index=True)  # noqa: DJ001
    _stored_username: str | None = None

    # Not stored. Authentication sets it on the user of an API key or a ticket. `visible_to(user)` reads it, so every
    # query is restricted and no caller has to remember to.
    bounds: Bounds = UNBOUNDED

    objects: ClassVar[UserManager] = UserManager()

    class Meta:
        ordering = ["id"]
        constraints = [
            # Readers would confuse two names that differ only in case.
            models.UniqueConstraint(Lower("username"), name="user_username_unique"),
            # `Lower` of SQLite knows ASCII only, and look-alikes differ in more than case.
            models.UniqueConstraint("name_digest", name="user_name_digest_unique"),
            # Accounts of programs, made in code, may have no address.
            models.UniqueConstraint(Lower("email"), condition=~Q(email=""), name="user_email_unique"),
            models.CheckConstraint(
                condition=Q(role=Role.ADMIN, is_staff=True, is_superuser=True)
                | (~Q(role=Role.ADMIN) & Q(is_staff=False, is_superuser=False)),
                name="user_admin_is_superuser",
            ),
        ]

    def save(
        self,
        force_insert: bool | tuple[ModelBase, ...] = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        self.is_staff = self.is_superuser = self.role == Role.ADMIN
        if update_fields is not None and "role" in update_fields:
            update_fields = {*update_fields, "is_staff", "is_superuser"}
        if self._renames(update_fields):
            self.name_digest, self.cased_name_digest = digests(self.username)
            if update_fields is not None:
                update_fields = {*update_fields, "name_digest", "cased_name_digest"}
        super().save(force_insert=force_insert, force_update=force_update, using=using, update_fields=update_fields)
        self._stored_username = self.username

    def _renames(self, update_fields: Iterable[str] | None) -> bool:
        """Return whether a save writes another username. One that stays keeps its digests, also if it has none."""
        if self._state.adding:
            return True
        is_written = "username" in (self.__dict__ if update_fields is None else update_fields)
        return is_written and self.username != self._stored_username

    @classmethod
    def from_db(cls, db: str | None, field_names: Collection[str], values: Collection[Any], **options: Any) -> Self:
        user = super().from_db(db, field_names, values, **options)
        user._stored_username = user.__dict__.get("username")
        return user

    def get_full_name(self) -> str:
        return self.name or self.username

    def get_short_name(self) -> str:
        return self.get_full_name()

    def _get_session_auth_hash(self, secret: str | bytes | None = None) -> str:
        """Return the hash that sessions and sign-ins are bound to: Django's, with the credential version in it.

        A new password or a higher `credential_version` ends them all.
        """
        value = f"{self.credential_version}:{self.password}"
        return salted_hmac("accounts.User.session", value, secret=secret, algorithm="sha256").hexdigest()


class Identity(models.Model):
    """A person at an identity provider: issuer and `subject` alone find the user of a sign-in there.

    Names and addresses do not count: they change hands, and some providers let people choose them.
    """

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="identities")
    issuer = models.CharField(max_length=255, help_text="Exactly as in OIDC_ISSUER.")
    subject = models.CharField(max_length=255, help_text="The claim `sub`: the provider's own id of the person.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "identities"
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["issuer", "subject"], name="identity_unique")]

    def __str__(self) -> str:
        return f"{self.subject} at {self.issuer}"
