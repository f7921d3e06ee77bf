"""Commands that wait: what is dispatched after an outage."""

from __future__ import annotations

from django.utils import timezone

from benchmarks.rows.trigger import AIRFLOW_TAKES
from benchmarks.table.row import Row, Work, at_least
from benchmarks.table.stage import Stage
from workflows.dispatch import dispatcher
from workflows.models import AirflowCommand, CommandKind, Run, TaskInstance, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState

WORKFLOWS = 10  # the runs of one are dispatched one at a time


def _another(stage: Stage, number: int) -> Workflow:
    dag, owner = stage.workflow.dag, stage.workflow.owner
    return Workflow.objects.get_or_create(name=f"Drained {number}", dag=dag, owner=owner)[0]


def _drain(stage: Stage) -> Work:
    """Dispatch `stage.many` accepted runs of several workflows. The figure is runs per second."""
    count = stage.many
    workflows = [stage.workflow, *(_another(stage, number) for number in range(1, WORKFLOWS))]
    runs = [run for workflow in workflows for run in stage.active_runs(count // WORKFLOWS, workflow=workflow)]
    ids = [run.pk for run in runs]
    TaskInstance.objects.filter(run__in=ids).delete()
    unknown = {"queued_at": None, "started_at": None, "observed_at": None}
    Run.objects.filter(pk__in=ids).update(state=RunState.PENDING, **unknown)
    now = timezone.now()
    AirflowCommand.objects.bulk_create(
        AirflowCommand(kind=CommandKind.TRIGGER, workflow_id=run.workflow_id, run=run, created_at=now, due_at=now)
        for run in runs
    )
    stage.forget_runs_in_airflow()
    stage.airflow.control(delay=0.0 if stage.is_counting else AIRFLOW_TAKES)

    def work() -> float:
        began = timezone.now()
        while AirflowCommand.objects.pending().exists():
            assert dispatcher.dispatch_due(DEFAULT, now=timezone.now()), "nothing was dispatched"
        return count / (timezone.now() - began).total_seconds()

    return work


ROWS = [
    Row(
        name="drain after an outage",
        goals=(at_least(100, "time"),),
        subject=_drain,
        unit="runs/s",
        many=100,
        counted=20,
        counts=False,
        rounds=4,
        seen="12 runs a second where Airflow answers in 50 ms",
    ),
]
