from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from workflows import reconcile
from workflows.models import AirflowState


class Command(BaseCommand):
    help = "Look once at what has changed in Airflow, as beat does every few seconds."

    def handle(self, *args: Any, **options: Any) -> None:
        if reconcile.tick(now=timezone.now()):
            self.stdout.write("Looked.")
            return
        state = AirflowState.current()
        if not state.reachable:
            raise CommandError(f"Airflow does not answer: {state.last_error}")
        self.stdout.write("Somebody else is looking just now.")
