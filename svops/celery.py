"""The Celery application; its settings are the `CELERY_` ones of Django's settings."""

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging
from kombu.transport.redis import Channel

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "svops.settings")

# A worker that loses Redis must not try to put back there what it has taken: beat sends it again.
Channel.do_restore = False

app = Celery("svops")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect
def leave_logging_alone(**options: Any) -> None:
    """With a receiver of this signal Celery sets up no logging: workers and beat log as the web processes do."""
