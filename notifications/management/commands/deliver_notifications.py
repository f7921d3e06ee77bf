from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand

from notifications import delivery


class Command(BaseCommand):
    help = "Deliver what is due, as workers do every two seconds."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--seconds", type=float, default=60, help="Begin no delivery after this time (default: 60)."
        )

    def handle(self, *args: Any, seconds: float, **options: Any) -> None:
        self.stdout.write(f"Deliveries: {delivery.deliver_due(budget=timedelta(seconds=seconds))}.")
