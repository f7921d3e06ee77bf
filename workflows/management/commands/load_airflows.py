from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from workflows.services.airflows_file import WrongFileError, load_airflows, read


class Command(BaseCommand):
    help = (
        "Add and change the further Airflows that AIRFLOWS_FILE describes. One that is no longer in the file becomes "
        "inactive. A wrong file changes nothing."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.AIRFLOWS_FILE:
            self.stdout.write("AIRFLOWS_FILE is not set: no Airflow was changed.")
            return
        try:
            loaded = load_airflows(read(Path(settings.AIRFLOWS_FILE), os.environ))
        except WrongFileError as exc:
            raise CommandError(f"AIRFLOWS_FILE={settings.AIRFLOWS_FILE!r}: {exc}") from exc
        words = {"added": loaded.added, "changed": loaded.changed, "no longer active": loaded.gone}
        done = "; ".join(f"{word}: {', '.join(names)}" for word, names in words.items() if names)
        self.stdout.write(f"Airflows {done}." if done else "The Airflows are as AIRFLOWS_FILE describes them.")
