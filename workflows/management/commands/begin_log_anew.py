from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from workflows.eventlog import epochs


class Command(BaseCommand):
    help = (
        "Let the log of events go on at a distant position, after a back-up was restored. SVOps does it by itself if "
        "it can see that the database is another one. Cursors of events that were lost are then refused, and no client "
        "misses a new event. Every other cursor stays valid."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"The log goes on after {epochs.begin_anew(now=timezone.now())}.")
