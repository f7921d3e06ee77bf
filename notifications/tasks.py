"""Background work. Each task is safe to run twice, at the same time, on any number of workers."""

from __future__ import annotations

from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from notifications import delivery, services

BUDGET = timedelta(seconds=20)


@shared_task(expires=10)
def deliver() -> None:
    """Deliver what is due. A tick that comes while this process is at it ends at once."""
    delivery.deliver_due(budget=BUDGET)


@shared_task(expires=60)
def canary() -> None:
    """Owe the canaries: what watches the way of an alert has to go that way."""
    services.owe_canaries(now=timezone.now())


@shared_task(expires=3600)
def forget() -> None:
    """Delete what was settled long ago."""
    services.forget(before=timezone.now() - timedelta(seconds=settings.NOTIFICATION_RETENTION))
