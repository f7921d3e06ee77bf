"""Checks that nothing was changed in, or taken out of, the audit trail."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import audit


class Command(BaseCommand):
    help = "Verify the chain of the audit trail. Keep the head it prints elsewhere: with it a cut end is found too."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--head", default="", help="A head that was printed before: it has to be in the chain.")

    def handle(self, *args: Any, head: str, **options: Any) -> None:
        verdict = audit.verify()
        if verdict.broken:
            raise CommandError(f"The trail is broken: {verdict.broken}; {verdict.count} rows before that are whole.")
        if head and not audit.holds(head):
            raise CommandError("The trail is broken: the head that was kept is not in it.")
        self.stdout.write(f"{verdict.count} rows, whole. Head: {verdict.head or '-'}")
