"""Background work of accounts. Each task is safe to run twice, at the same time, on any number of workers."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from accounts import audit
from accounts.services import notices


@shared_task(expires=10)
def seal_audit() -> None:
    """Give the rows of the audit trail that were not sealed at once their place in the chain."""
    audit.seal()


@shared_task(expires=60)
def witness_audit() -> None:
    """Compare the audit trail with the head that is kept outside of the database, and send the head to the webhook."""
    audit.witness()


@shared_task(expires=30)
def send_notices() -> None:
    """Send the e-mails about changed credentials that are due."""
    notices.send_due(now=timezone.now())
