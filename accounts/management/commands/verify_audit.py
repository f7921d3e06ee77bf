"""Verify the audit trail."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import audit


class Command(BaseCommand):
    help = (
        "Check that no row of the audit trail was changed or removed, and that the trail contains the head in "
        "AUDIT_HEAD_FILE. A head from elsewhere, such as the log or the webhook, can be given too."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--head", default="", help="A head that was printed before; the chain must contain it.")

    def handle(self, *args: Any, head: str, **options: Any) -> None:
        verdict = audit.verify()
        if verdict.broken:
            raise CommandError(f"The trail is broken: {verdict.broken}. Whole rows before that: {verdict.count}.")
        if head and not audit.holds(head):
            raise CommandError("The trail is broken: it does not contain the given head.")
        self.stdout.write(f"{verdict.count} rows, whole. Head: {verdict.head or '-'}")
