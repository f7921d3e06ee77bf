"""Background work across the apps."""

import logging

from celery import shared_task
from django.utils import timezone

from svops import cleanup as retention

logger = logging.getLogger(__name__)


@shared_task
def cleanup() -> None:
    """Delete what is older than its retention."""
    logger.info("cleaned up", extra=retention.clean(now=timezone.now()))
