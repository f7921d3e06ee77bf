"""Retention: calls the cleanup of each app."""

from __future__ import annotations

from datetime import datetime, timedelta

from accounts import services as accounts
from accounts import tickets
from accounts.services import notices, sessions
from workflows import retention


def clean(*, now: datetime) -> dict[str, int]:
    """Delete what is older than its retention; return the number of deleted rows of each kind."""
    return retention.clean(now=now) | {
        "sign_ins": accounts.forget_sign_ins(expired_before=now),
        "tickets": tickets.forget_tickets(expired_before=now),
        "sessions": sessions.forget_sessions(expired_before=now),
        "notices": notices.forget(before=now - timedelta(days=30)),
    }
