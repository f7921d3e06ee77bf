from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from workflows.management.base import add_airflow, named_airflow
from workflows.models import Airflow
from workflows.watch import poll


class Command(BaseCommand):
    help = "Poll an Airflow once, as beat does every few seconds."

    def add_arguments(self, parser: CommandParser) -> None:
        add_airflow(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        airflow = named_airflow(options)
        if poll.tick(airflow, now=timezone.now()):
            self.stdout.write("Polled.")
            return
        state = Airflow.named(airflow)
        if not state.reachable:
            raise CommandError(f"Airflow does not answer: {state.last_error}")
        self.stdout.write("Another process is polling now.")
