from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts import services as accounts
from notifications import services
from rest.sealing import UnsealableError
from workflows import services as workflows


class Command(BaseCommand):
    help = (
        "Encrypt the targets and secrets of notifications, second factors, and the secrets of Airflows again, with the "
        "first of SECRET_KEYS."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            count = services.reseal() + accounts.reseal_factors() + workflows.reseal_airflows()
        except UnsealableError as exc:
            raise CommandError(f"{exc} Put that key back behind the new one and try again.") from exc
        self.stdout.write(f"Encrypted again: {count}.")
