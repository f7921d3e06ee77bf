"""Passwords: which are strong enough, and what a new one ends."""

from __future__ import annotations

import logging
import uuid

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.models import EndReason, NoticeKind, User
from accounts.services import notices, users
from rest.errors import InvalidInputError

logger = logging.getLogger(__name__)


def change_password(
    *,
    user: User,
    current_password: str,
    new_password: str,
    sign_in_id: uuid.UUID | None = None,
    session_key: str | None = None,
) -> None:
    """Change one's own password. Every other session and token ends; `sign_in_id` or `session_key` goes on."""
    if not user.check_password(current_password):
        raise InvalidInputError({"current_password": ["This is not your current password."]})
    refuse_weak(new_password, user=user, field="new_password")
    user.set_password(new_password)
    kept = [sign_in_id] if sign_in_id else []
    with transaction.atomic():
        user.save(update_fields=["password"])
        user.sign_ins.filter(pk__in=kept).update(auth_hash=user.get_session_auth_hash())
        others = user.sign_ins.open().exclude(pk__in=kept)
        others.update(ended_at=timezone.now(), end_reason=EndReason.REVOKED)
        user.browser_sessions.exclude(session_key=session_key or "").delete()
        audit.record("user.password_changed", user, actor=user)
        notices.record(user, NoticeKind.PASSWORD_CHANGED)
    logger.info("password changed", extra={"user_id": user.pk})


@transaction.atomic
def set_password(*, user: User, password: str | None) -> User:
    """Set somebody's password, or none at all. Every session and token of the user ends."""
    if password is None:
        refuse_no_password(user=user)
    user.set_password(password)
    user.save(update_fields=["password"])
    user.sign_ins.open().update(ended_at=timezone.now(), end_reason=EndReason.REVOKED)
    user.browser_sessions.all().delete()
    audit.record("user.password_changed", user, after={"usable": password is not None})
    notices.record(user, NoticeKind.PASSWORD_CHANGED)
    logger.info("password set", extra={"user_id": user.pk})
    return user


@transaction.atomic
def refuse_no_password(*, user: User) -> None:
    """Raise `LastAdminError` if without this password no administrator could sign in with one."""
    user, other_admins = users.locked(user)
    users.refuse_last_admin(user, [admin for admin in other_admins if admin.has_usable_password()])


def refuse_weak(password: str, *, user: User, field: str) -> None:
    """Raise `InvalidInputError` for `field` if Django's validators refuse the password."""
    if errors := weak(password, user=user, field=field):
        raise InvalidInputError(errors)


def weak(password: str, *, user: User, field: str) -> dict[str, list[str]]:
    """Return why Django's validators refuse the password."""
    try:
        validate_password(password, user=user)
    except ValidationError as exc:
        return {field: exc.messages}
    return {}
