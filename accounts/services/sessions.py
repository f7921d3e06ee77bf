"""What is signed in for a user: families of API tokens and browser sessions. The user lists them and ends them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts import audit
from accounts.identity import Caller
from accounts.models import BrowserSession, EndReason, User
from accounts.services.sign_ins import end_sign_in
from rest.errors import NotFoundError


@dataclass(frozen=True, kw_only=True)
class OpenSession:
    id: uuid.UUID
    kind: Literal["token", "browser"]
    device: str
    address: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    current: bool


def open_sessions(caller: Caller) -> list[OpenSession]:
    """Return what is signed in for the caller, the last used first."""
    now = timezone.now()
    tokens = [
        OpenSession(
            id=row.pk, kind="token", device=row.device, address=row.address, created_at=row.created_at,
            seen_at=row.refreshed_at, expires_at=row.expires_at, current=row.pk == caller.sign_in_id,
        )
        for row in caller.user.sign_ins.open().filter(expires_at__gt=now).select_related("user")
        if row.is_bound
    ]  # fmt: skip
    browsers = [
        OpenSession(
            id=row.public_id, kind="browser", device=row.device, address=row.address, created_at=row.created_at,
            seen_at=row.seen_at, expires_at=row.expire_date, current=row.session_key == caller.session_key,
        )
        for row in _browsers(caller.user).filter(expire_date__gt=now)
        if row.public_id and row.created_at and row.seen_at
    ]  # fmt: skip
    return sorted([*tokens, *browsers], key=lambda session: session.seen_at, reverse=True)


@transaction.atomic
def end_session(*, user: User, session_id: uuid.UUID) -> None:
    """End one of the user's own sign-ins. Raises `NotFoundError` for anything else."""
    if user.sign_ins.open().filter(pk=session_id).exists():
        end_sign_in(sign_in_id=session_id, reason=EndReason.REVOKED)
    elif _browsers(user).filter(public_id=session_id).delete()[0]:
        audit.record("auth.signed_out", user, after={"reason": EndReason.REVOKED}, actor=user)
    else:
        raise NotFoundError("There is no such session.")


def _browsers(user: User) -> QuerySet[BrowserSession]:
    return BrowserSession.objects.filter(user=user)


def forget_sessions(*, expired_before: datetime) -> int:
    """Delete browser sessions that have expired. Return how many."""
    return BrowserSession.objects.filter(expire_date__lt=expired_before).delete()[0]
