"""Retention across the apps, each of which knows its own."""

from __future__ import annotations

from datetime import datetime

from accounts import services as accounts
from accounts import tickets
from workflows import retention


def clean(*, now: datetime) -> dict[str, int]:
    """Delete what has outlived its use; how many rows of each kind went."""
    return retention.clean(now=now) | {
        "sign_ins": accounts.forget_sign_ins(expired_before=now),
        "tickets": tickets.forget_tickets(expired_before=now),
    }
