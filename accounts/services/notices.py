"""E-mail to the owner of an account when a credential changes, so that a thief does not go unnoticed."""

from __future__ import annotations

import logging
import smtplib
from datetime import datetime, timedelta

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import connection
from django.utils import timezone

from accounts import audit
from accounts.models import Notice, NoticeKind, User
from rest.backoff import doubling

logger = logging.getLogger(__name__)

LEASE = timedelta(minutes=2)
FIRST_WAIT, LONGEST_WAIT, MOST_ATTEMPTS = timedelta(minutes=1), timedelta(hours=4), 14  # about a day and a half
AT_ONCE = 50
SAYS = {
    NoticeKind.PASSWORD_CHANGED: "The password of your account was changed. All other sessions have ended.",
    NoticeKind.EMAIL_CHANGED: "Your account has another e-mail address now. This is the last message to this one.",
    NoticeKind.API_KEY_CREATED: "An API key was created for your account.",
    NoticeKind.API_KEY_ROTATED: "An API key of your account got a new secret.",
    NoticeKind.API_KEY_REVOKED: "An API key of your account was revoked.",
    NoticeKind.FACTOR_ADDED: "Your account has a second factor now. All other sessions have ended.",
    NoticeKind.FACTOR_REMOVED: "The second factor of your account was removed.",
    NoticeKind.RECOVERY_CODES_MADE: "Your account has new recovery codes. The old ones are not valid any more.",
    NoticeKind.RECOVERY_CODE_USED: "Somebody signed in to your account with a recovery code.",
}


def record(user: User, kind: NoticeKind, *, detail: str = "", to: str = "") -> None:
    """Write the notice in the transaction of the change. An address that is not confirmed may be a stranger's."""
    assert connection.in_atomic_block, "record() must share the transaction of the change"  # noqa: S101
    to = to or (user.email if user.email_confirmed else "")
    if settings.ACCOUNT_NOTICES and to:
        now = timezone.now()
        address = audit.present_origin().address
        Notice.objects.create(
            user=user, kind=kind, to=to, detail=detail, address=address, created_at=now, next_try_at=now
        )


def send_due(*, now: datetime) -> int:
    """Send what is due. Return how many were sent. A failed one comes round again."""
    sent = 0
    for notice in Notice.objects.filter(next_try_at__lte=now).order_by("next_try_at")[:AT_ONCE]:
        # The lease: of two workers, one changes the row. After a crash it comes round again.
        taken = Notice.objects.filter(pk=notice.pk, next_try_at=notice.next_try_at).update(next_try_at=now + LEASE)
        sent += bool(taken) and _send(notice, now)
    return sent


def _send(notice: Notice, now: datetime) -> bool:
    tries = notice.attempts + 1
    try:
        _mail(notice).send()
    except (smtplib.SMTPException, OSError) as exc:
        wait = doubling(tries, first=FIRST_WAIT, longest=LONGEST_WAIT)
        again = now + wait if tries < MOST_ATTEMPTS else None
        Notice.objects.filter(pk=notice.pk).update(attempts=tries, next_try_at=again)
        logger.warning("account notice not sent", extra={"notice_id": notice.pk, "error": type(exc).__name__})
        return False
    Notice.objects.filter(pk=notice.pk).update(attempts=tries, next_try_at=None, sent_at=now)
    return True


def _mail(notice: Notice) -> EmailMessage:
    # No names in the text: the user who chose one would write in our name.
    lines = [
        SAYS[NoticeKind(notice.kind)],
        "",
        f"When: {notice.created_at:%Y-%m-%d %H:%M} UTC",
        f"From: {notice.address or 'the platform itself'}",
        *([f"Key: {notice.detail}"] if notice.detail else []),
        "",
        "If that was not you, change your password, sign out everywhere and tell an administrator:",
        f"{settings.PUBLIC_URL}/account",
    ]
    return EmailMessage("SVOps: a change of your account", "\n".join(lines), to=[notice.to])


def forget(*, before: datetime) -> int:
    """Delete notices that were sent or given up before then. Return how many."""
    return Notice.objects.filter(next_try_at__isnull=True, created_at__lt=before).delete()[0]
