from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accounts.models import Role, User
from rest.errors import BusyError, SVOpsError
from workflows import gateway, services
from workflows.models import Dag, Workflow
from workflows.naming import DEFAULT
from workflows.watch import dags

EXAMPLES = {
    "simple_workflow_example": "Simple workflow",
    "data_processing_pipeline": "Data processing",
    "ml_training_pipeline": "ML training",
}
POLL = 2


class Command(BaseCommand):
    help = "Sync the DAGs, and create a workflow for each example that has none."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--wait",
            type=float,
            metavar="SECONDS",
            help="Wait at most this long until Airflow has read every example, else fail.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        owner = User.objects.filter(role=Role.ADMIN).order_by("id").first()
        if owner is None:
            raise CommandError("There is no admin who could own the workflows: run ensure_admin first.")
        deadline = time.monotonic() + (options["wait"] or 0)
        while (missing := self._load_all(owner)) and time.monotonic() < deadline:
            time.sleep(POLL)
        if missing and options["wait"] is not None:
            raise CommandError(f"Airflow has not read {', '.join(missing)}.")

    def _load_all(self, owner: User) -> list[str]:
        """Create the workflows of the examples that Airflow has read; return the other examples."""
        try:
            with gateway.translated(DEFAULT):
                dags.sync_dags(DEFAULT, now=timezone.now())
        except BusyError:
            pass  # another worker reads the same
        except SVOpsError as exc:
            raise CommandError(str(exc)) from exc
        present = Dag.objects.of(DEFAULT).filter(dag_id__in=EXAMPLES, is_present=True)
        for dag in present:
            self._load(dag, owner)
        return sorted(EXAMPLES.keys() - {dag.dag_id for dag in present})

    def _load(self, dag: Dag, owner: User) -> None:
        # A deleted workflow counts too: the example must not come back at the next start.
        if Workflow.objects.filter(dag=dag).exists():
            return
        workflow = services.create_workflow(
            owner=owner, dag=dag, name=EXAMPLES[dag.dag_id], description=dag.description
        )
        self.stdout.write(f"Loaded workflow {workflow.pk}: {workflow.name}.")
