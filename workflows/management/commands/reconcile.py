from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from workflows.models import Airflow
from workflows.watch import poll


class Command(BaseCommand):
    help = "Poll Airflow once, as beat does every few seconds."

    def handle(self, *args: Any, **options: Any) -> None:
        if poll.tick(now=timezone.now()):
            self.stdout.write("Polled.")
            return
        state = Airflow.default()
        if not state.reachable:
            raise CommandError(f"Airflow does not answer: {state.last_error}")
        self.stdout.write("Another process is polling now.")
