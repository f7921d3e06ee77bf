from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from rest.errors import SVOpsError
from rest.masking import mask
from workflows import gateway
from workflows.management.base import add_airflow, named_airflow
from workflows.models import Dag, DagFileError
from workflows.watch import dags


class Command(BaseCommand):
    help = "Copy the DAGs of an Airflow: parameters, task graph, tags, paused, import errors."

    def add_arguments(self, parser: CommandParser) -> None:
        add_airflow(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        airflow = named_airflow(options)
        try:
            with gateway.translated(airflow):
                result = dags.sync_dags(airflow, now=timezone.now(), whole=True)
        except SVOpsError as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(f"{len(result.seen)} DAGs found, {len(result.changed)} changed, {len(result.vanished)} gone.")
        for file in DagFileError.objects.filter(airflow__name=airflow).order_by("filename"):
            last_line = mask(file.error).strip().rpartition("\n")[2]
            self.stderr.write(self.style.WARNING(f"{file.filename}: Airflow cannot import it. {last_line}"))
        for dag in Dag.objects.of(airflow).filter(dag_id__in=result.unusable):
            self.stderr.write(self.style.WARNING(f"{dag.dag_id}: SVOps cannot use it. {dag.unusable_reason}"))
