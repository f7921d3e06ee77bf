from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from notifications import services
from notifications.sealing import UnsealableError


class Command(BaseCommand):
    help = "Encrypt targets and secrets of notifications anew, with the first of SECRET_KEYS."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            count = services.reseal()
        except UnsealableError as exc:
            raise CommandError(f"{exc} Put that key back behind the new one and try again.") from exc
        self.stdout.write(f"Encrypted anew: {count}.")
