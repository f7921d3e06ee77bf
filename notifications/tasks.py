"""Background work. Each task is safe to run twice, at the same time, on any number of workers."""

from __future__ import annotations

from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from notifications import delivery, link_mails, services

BUDGET = timedelta(seconds=20)


@shared_task(expires=10)
def deliver() -> None:
    """Deliver what is due. It ends at once if this process is already delivering."""
    delivery.deliver_due(budget=BUDGET)


@shared_task(expires=10)
def send_links() -> None:
    """Send the links by which recipients of e-mail agree or refuse."""
    link_mails.send_due(now=timezone.now())


@shared_task(expires=60)
def canary() -> None:
    """Create the canaries. They go the same way as alerts, and so prove that it works."""
    services.create_canaries(now=timezone.now())


@shared_task(expires=3600)
def forget() -> None:
    """Delete deliveries that were settled long ago."""
    services.forget(before=timezone.now() - timedelta(seconds=settings.NOTIFICATION_RETENTION))
