"""Changes of an account: its profile, its role, and whether it is active."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError, Q

from accounts import audit
from accounts.models import NoticeKind, Role, User
from accounts.names import digests
from accounts.services import notices
from accounts.services.sign_ins import sign_out_everywhere
from rest.errors import ConflictError, InvalidInputError

logger = logging.getLogger(__name__)

USER_FACTS = ("username", "email", "name", "role", "is_active")


class LastAdminError(ConflictError):
    code = "last_admin"


class InUseError(ConflictError):
    code = "in_use"


@transaction.atomic
def update_profile(*, user: User, name: str | None = None, email: str | None = None, by_oneself: bool = True) -> User:
    """Change what is given. An address that the user chose (`by_oneself`) is not confirmed."""
    before, was_confirmed = audit.facts_of(user, USER_FACTS), user.email_confirmed
    if name is not None:
        user.name = name
    if email is not None and email != user.email:
        user.email, user.email_confirmed = email, not by_oneself
    refuse_taken(user)
    save(user, update_fields=["name", "email", "email_confirmed"])
    _record_change(user, before, was_confirmed=was_confirmed)
    return user


@transaction.atomic
def update_user(
    *,
    user: User,
    role: Role | None = None,
    is_active: bool | None = None,
    name: str | None = None,
    email: str | None = None,
) -> User:
    """Change what is given, all of it or nothing."""
    user = update_profile(user=user, name=name, email=email, by_oneself=False)
    if role is not None and role != user.role:
        user = change_role(user=user, role=role)
    if is_active is not None and is_active != user.is_active:
        user = reactivate(user=user) if is_active else deactivate(user=user)
    return user


@transaction.atomic
def change_role(*, user: User, role: Role) -> User:
    """Give the user another role. Existing tokens and sessions have its rights from now on."""
    user, other_admins = locked(user)
    if role != Role.ADMIN:
        refuse_last_admin(user, other_admins)
    before, user.role = user.role, role
    user.save(update_fields=["role"])
    audit.record("user.role_changed", user, before={"role": before}, after={"role": role})
    logger.info("role changed", extra={"user_id": user.pk, "before": before, "after": str(role)})
    return user


@transaction.atomic
def deactivate(*, user: User) -> User:
    """Deactivate an account: it cannot sign in, and all its tokens, keys and sessions end now."""
    user, other_admins = locked(user)
    refuse_last_admin(user, other_admins)
    user.is_active = False
    user.save(update_fields=["is_active"])
    sign_out_everywhere(user=user)
    audit.record("user.deactivated", user)
    logger.info("user deactivated", extra={"user_id": user.pk})
    return user


@transaction.atomic
def reactivate(*, user: User) -> User:
    """Let an account sign in again. Its earlier tokens, keys and sessions stay ended."""
    user = User.objects.select_for_update().get(pk=user.pk)
    user.is_active = True
    user.save(update_fields=["is_active"])
    audit.record("user.reactivated", user)
    logger.info("user reactivated", extra={"user_id": user.pk})
    return user


@transaction.atomic
def edit(*, user: User, username: str, name: str, email: str) -> User:
    """Give the user exactly this name, full name and address. Raises `InvalidInputError` for a taken one.

    An administrator calls this: a new address counts as confirmed.
    """
    before = audit.facts_of(User.objects.select_for_update().get(pk=user.pk), USER_FACTS)
    user.username, user.name, user.email = User.normalize_username(username), name, email
    was_confirmed = user.email_confirmed
    user.email_confirmed = user.email_confirmed or before["email"] != email
    refuse_taken(user)
    save(user, update_fields=["username", "name", "email", "email_confirmed"])
    _record_change(user, before, was_confirmed=was_confirmed)
    return user


def _record_change(user: User, before: Mapping[str, object], *, was_confirmed: bool) -> None:
    old, new = audit.changes(before, audit.facts_of(user, USER_FACTS))
    if new:
        audit.record("user.changed", user, before=old, after=new)
    if old.get("email") and was_confirmed:
        notices.record(user, NoticeKind.EMAIL_CHANGED, to=str(old["email"]))


@transaction.atomic
def delete(*, user: User) -> None:
    """Delete an account that owns no workflow and no run, with its keys, grants and notification configs."""
    user, other_admins = locked(user)
    refuse_last_admin(user, other_admins)
    before = audit.facts_of(user, USER_FACTS) | audit.removed_with(user)
    audit.record("user.deleted", user, before=before)
    logger.info("user deleted", extra={"user_id": user.pk})
    try:
        with transaction.atomic():
            user.delete()
    except ProtectedError as exc:
        raise InUseError("This account owns workflows or runs; deactivate it instead.") from exc


def locked(user: User) -> tuple[User, list[User]]:
    """Return the user as they are now and the other active admins, all locked: two cannot remove each other."""
    needed = Q(pk=user.pk) | Q(role=Role.ADMIN, is_active=True)
    # Everybody locks in the same order: two that lock in different orders would wait for each other.
    locked = list(User.objects.select_for_update().filter(needed).order_by("pk"))
    return next(u for u in locked if u.pk == user.pk), [u for u in locked if u.pk != user.pk]


def refuse_last_admin(user: User, other_admins: list[User]) -> None:
    """Raise `LastAdminError` if the user is an active administrator and there is no other one."""
    if user.role == Role.ADMIN and user.is_active and not other_admins:
        raise LastAdminError("This is the last active administrator; make somebody else one first.")


def refuse_taken(user: User) -> None:
    """Raise `InvalidInputError` if another user has this name or address."""
    if errors := taken(user):
        raise InvalidInputError(errors)


def taken(user: User) -> dict[str, list[str]]:
    """Return for each field what other users have already."""
    others = User.objects.exclude(pk=user.pk)
    errors = {}
    looks = digests(user.username)
    if others.filter(username__iexact=user.username).exists():
        errors["username"] = ["A user with that username already exists."]
    elif others.filter(Q(name_digest__in=looks) | Q(cased_name_digest__in=looks)).exists():
        errors["username"] = ["This looks like the username of another user."]
    if user.email and others.filter(email__iexact=user.email).exists():
        errors["email"] = ["A user with that email address already exists."]
    return errors


def save(user: User, *, update_fields: list[str] | None = None) -> None:
    """Write the user. Raises `InvalidInputError` if somebody took the name or address since `refuse_taken`."""
    try:
        with transaction.atomic():
            user.save(update_fields=update_fields)
    except IntegrityError:
        refuse_taken(user)
        raise
