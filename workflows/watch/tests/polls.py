"""Steps of the tests: a run is polled, completed, stopped; what is stored of it."""

from __future__ import annotations

from typing import Any

from workflows.models import Run
from workflows.states import RunState
from workflows.tests.stage import at, dag_run, task
from workflows.watch import observe
from workflows.watch.observation import Observation


def polled(
    run: Run, second: float, state: str | None = None, *tasks: Any, whole: bool | None = None, **times: Any
) -> Run:
    """Observe what a poll at that second shows. For an ended run it shows all tasks, unless `whole` says otherwise."""
    ended = state in {"success", "failed"}
    seen = dag_run(run, state, **times) if state else None
    observe.observe(
        run.pk, Observation(at=at(second), run=seen, tasks=tasks, all_tasks=ended if whole is None else whole)
    )
    run.refresh_from_db()
    return run


def completed(run: Run) -> Run:
    """Let it run and succeed: one task, 10 s."""
    polled(run, 5, "running", task(run, "extract", "running", start=2), start=1)
    return polled(run, 12, "success", task(run, "extract", "success", start=2, end=10), start=1, end=11)


def data_of(run: Run, kind: str) -> Any:
    return run.events.get(type=kind).data


def everything(run: Run) -> list[Any]:
    """Return everything that is stored of the run, except the time of its last observation."""
    rows = [
        *Run.objects.filter(pk=run.pk).values(),
        *run.tasks.order_by("id").values(),
        *run.events.order_by("id").values(),
    ]
    return [{name: value for name, value in row.items() if name != "observed_at"} for row in rows]


def stopping(run: Run) -> None:
    Run.objects.move(run.pk, to=RunState.STOPPING, stop_requested_at=at(6), state_reason="stopped by ada")
