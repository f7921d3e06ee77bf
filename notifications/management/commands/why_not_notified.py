from __future__ import annotations

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from accounts.models import User
from notifications.explain import explain
from workflows.models import Run


class Command(BaseCommand):
    help = "Say what a user was notified of about a run, and why not more."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument("run_id", type=UUID)

    def handle(self, *args: Any, username: str, run_id: UUID, **options: Any) -> None:
        try:
            user, run = User.objects.get(username=username), Run.objects.get(pk=run_id)
        except (User.DoesNotExist, Run.DoesNotExist) as exc:
            raise CommandError(f"{exc}") from exc
        for answer in explain(user=user, run=run):
            about = f"{answer.event.type} to {answer.config}: " if answer.event else ""
            self.stdout.write(about + answer.text)
