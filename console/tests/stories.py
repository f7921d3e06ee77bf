"""Steps in the life of a run, recorded as the worker records them."""

from __future__ import annotations

from typing import Any

from workflows import services
from workflows.models import Airflow, Run, TriggerType, Workflow
from workflows.tests.stage import at, dag_run, task
from workflows.watch.observation import Observation
from workflows.watch.observe import observe


def accepted(workflow: Workflow, **more: Any) -> Run:
    """Trigger a run that stays pending, with its event, as it does while Airflow is down."""
    Airflow.objects.update(reachable=False)
    request = services.RunRequest(parameters={"rows": 1} if workflow.dag.params_schema else {}, **more)
    run = services.trigger_run(workflow=workflow, user=workflow.owner, trigger_type=TriggerType.API, request=request)
    Airflow.objects.update(reachable=True)
    return run


def begin(run: Run) -> None:
    """Record that Airflow has started the run and its first task."""
    started = [task(run, "extract", "running", start=1)]
    observe(run.pk, Observation(at=at(2), run=dag_run(run, "running", start=1), tasks=started))


def end(run: Run, state: str = "success") -> None:
    """Record that Airflow has ended the run. A failed run failed because of `clean`."""
    failed = state == "failed"
    tasks = [
        task(run, "extract", "success", start=1, end=3),
        task(run, "clean", state, start=3, end=6),
        task(run, "count", "success", start=3, end=5),
        task(run, "load", "upstream_failed" if failed else "success", start=6, end=8),
    ]
    observe(run.pk, Observation(at=at(10), run=dag_run(run, state, start=1, end=9), tasks=tasks, all_tasks=True))
