from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from svops.errors import SVOpsError
from workflows import dag_sync, upstream


class Command(BaseCommand):
    help = "Mirror Airflow's DAGs: parameters, task graph, tags, paused, import errors."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with upstream.translated():
                result = dag_sync.sync_dags(now=timezone.now())
        except SVOpsError as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(f"{len(result.seen)} DAGs seen, {len(result.changed)} changed, {len(result.vanished)} gone.")
        for dag_id in result.import_errors:
            self.stderr.write(self.style.WARNING(f"{dag_id}: Airflow can not import its file."))
