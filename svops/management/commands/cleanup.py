from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from svops import cleanup


class Command(BaseCommand):
    help = "Delete what is older than its retention (KEEP_… in docs/configuration.md)."

    def handle(self, *args: Any, **options: Any) -> None:
        for kind, count in cleanup.clean(now=timezone.now()).items():
            self.stdout.write(f"{count:>8} {kind.replace('_', ' ')}")
