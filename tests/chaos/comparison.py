"""Compares what SVOps says of the runs in one Airflow with what its own API says.

Imported only after Django is set up: it reads SVOps' tables directly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.chaos import airflow_view, history
from tests.chaos.accepted import Accepted
from tests.chaos.side import DAG_IDS, Side, is_task_process
from tests.chaos.violation import Violation
from workflows.models import Event, Run, TaskInstance
from workflows.states import OPEN, RunState

ALIVE_IN_AIRFLOW = {"running", "queued", "scheduled", "restarting", "deferred", "up_for_reschedule", "up_for_retry"}


@dataclass(frozen=True)
class Trace:
    """A line that a task has written while it worked."""

    at: float
    task: str
    pid: int


class Comparison:
    """The runs of one Airflow since `since`, here and there, seen at one moment."""

    def __init__(self, side: Side, accepted: Accepted, *, since: datetime) -> None:
        self.accepted = accepted
        self._side = side
        found = Run.objects.prefetch_related("tasks").filter(airflow__name=side.name, dag_id__in=DAG_IDS)
        self.runs = {run.dag_run_id: run for run in found.filter(created_at__gte=since)}
        # Those of earlier rounds too.
        self.all_in_airflow = airflow_view.runs(side)
        self.in_airflow = {name: run for name, run in self.all_in_airflow.items() if name in self.runs}
        self.tasks = airflow_view.tasks(side, self.in_airflow)
        self._questions = airflow_view.questions(side)
        self._events: defaultdict[Any, list[Event]] = defaultdict(list)
        for event in Event.objects.filter(run__in=[run.pk for run in self.runs.values()]).order_by("run", "seq"):
            self._events[event.run_id].append(event)

    def violations(self) -> Iterator[Violation]:
        yield from self._accepted_once()
        for dag_run_id, run in self.runs.items():
            yield from self._at_rest(run)
            yield from self._as_in_airflow(run, self.in_airflow.get(dag_run_id))
            yield from history.contradictions(run, self._events[run.pk], self.accepted)
            yield from self._questions_told(run)
            yield from self._nothing_lives_behind_its_stop(run)

    def labels(self) -> dict[str, str]:
        """Return the label of each run in Airflow, by its dag_run_id."""
        return {name: str((run["conf"] or {}).get("label", "")) for name, run in self.all_in_airflow.items()}

    # --- triggers ---------------------------------------------------------------------------------------

    def _accepted_once(self) -> Iterator[Violation]:
        known = {str(run.pk): run for run in self.runs.values()}
        for run_id in self.accepted.runs.keys() - known.keys():
            yield Violation("an accepted trigger is kept", f"SVOps has no such run in {self._side.name}", run_id)
        for run_id in self.accepted.runs.keys() & known.keys():
            yield from self._has_one_run(known[run_id])

    def _has_one_run(self, run: Run) -> Iterator[Violation]:
        exists = run.dag_run_id in self.in_airflow
        was_stopped_first = run.queued_at is None and run.state == RunState.STOPPED
        deleted = self.accepted.changes(run.dag_run_id, "delete")
        if not exists and not was_stopped_first and not deleted:
            yield Violation("an accepted trigger has its Airflow run", f"none, it is {run.state}", str(run.pk))

    # --- runs and tasks ---------------------------------------------------------------------------------

    def _at_rest(self, run: Run) -> Iterator[Violation]:
        if run.state in OPEN:
            since = run.stop_requested_at if run.state == RunState.STOPPING else run.started_at
            yield Violation("at rest within one sweep of quiet", f"{run.state} since {since}", str(run.pk))
        if run.paused:
            yield Violation("nothing stays paused", run.state, str(run.pk))

    def _as_in_airflow(self, run: Run, there: dict[str, Any] | None) -> Iterator[Violation]:
        run_id = str(run.pk)
        if there is None:
            if run.queued_at and not self.accepted.changes(run.dag_run_id, "delete"):
                yield Violation("no run is lost in Airflow", f"{run.dag_run_id} {run.state}", run_id)
            return
        if not _same_state(run, there["state"]):
            yield Violation("state as in Airflow", f"{run.state}, Airflow: {there['state']}", run_id)
        if not _same_time(run.started_at, there["start_date"]):
            yield Violation("start as in Airflow", f"{run.started_at}, Airflow: {there['start_date']}", run_id)
        if run.state in {RunState.SUCCESS, RunState.FAILED} and not _same_time(run.ended_at, there["end_date"]):
            yield Violation("end as in Airflow", f"{run.ended_at}, Airflow: {there['end_date']}", run_id)
        if run.trigger_type == "external":
            ours, theirs = (run.parameters, run.note), (there["conf"], there["note"] or "")
        else:
            theirs_too = {name: there["conf"].get(name) for name in run.parameters}
            ours, theirs = (run.parameters, ""), (theirs_too, "")
        if ours != theirs:
            yield Violation("parameters and note as in Airflow", f"{ours}, Airflow: {theirs}", run_id)
        yield from self._dates_as_in_airflow(run, there)
        yield from self._tasks_as_in_airflow(run)

    def _dates_as_in_airflow(self, run: Run, there: dict[str, Any]) -> Iterator[Violation]:
        if not _same_time(run.logical_date, there["logical_date"]):
            yield Violation("dates as in Airflow", f"{run.logical_date}, {there['logical_date']}", str(run.pk))
        # Airflow derives an interval that was not given.
        if run.data_interval or run.trigger_type == "external":
            ours = (run.data_interval_start, run.data_interval_end)
            theirs = (there["data_interval_start"], there["data_interval_end"])
            if not all(map(_same_time, ours, theirs)):
                yield Violation("dates as in Airflow", f"{ours}, Airflow: {theirs}", str(run.pk))

    def _questions_told(self, run: Run) -> Iterator[Violation]:
        changed = self.accepted.changes(run.dag_run_id, "clear", "mark", "mark task", "delete")
        was_stopped = run.stop_requested_at is not None
        if changed or was_stopped or run.attempt > 1 or run.state not in {RunState.SUCCESS, RunState.FAILED}:
            return
        ids = {str(task["id"]) for task in self.tasks[run.dag_run_id].values()}
        asked = {name: detail for name, detail in self._questions.items() if name in ids}
        yield from history.untold(run, self._events[run.pk], asked)

    def _tasks_as_in_airflow(self, run: Run) -> Iterator[Violation]:
        run_id, there = str(run.pk), self.tasks[run.dag_run_id]
        here = {(task.task_id, task.map_index): task for task in run.tasks.all()}
        for key in here.keys() ^ there.keys():
            where = "here" if key in here else "in Airflow"
            yield Violation("the same task instances as in Airflow", f"{key} only {where}", run_id)
        for key in here.keys() & there.keys():
            for what, ours, theirs in _differences(here[key], there[key]):
                yield Violation(f"{what} as in Airflow", f"{key} {ours}, Airflow: {theirs}", run_id)
            if run.state == RunState.STOPPED and there[key]["state"] in ALIVE_IN_AIRFLOW:
                yield Violation("nothing of a stopped run is alive", f"{key} is {there[key]['state']}", run_id)

    def _nothing_lives_behind_its_stop(self, run: Run) -> Iterator[Violation]:
        traces = self._traces(run)
        for begin, end in history.stopped_periods(run, self._events[run.pk], self.accepted):
            until = end.timestamp() if end else float("inf")
            for trace in traces:
                if begin.timestamp() < trace.at < until:
                    late = f"{trace.task} was at work {trace.at - begin.timestamp():.1f} s after it"
                    yield Violation("no process behind workflow.stopped", late, str(run.pk))
                    break
        if run.state == RunState.STOPPED:
            for pid in {trace.pid for trace in traces}:
                if is_task_process(pid):
                    yield Violation("no process of a stopped run", f"{pid} is alive", str(run.pk))

    def _traces(self, run: Run) -> list[Trace]:
        path = self._side.witnesses / run.dag_run_id
        lines = path.read_text().splitlines() if path.is_file() else []
        fields = [line.split() for line in lines]
        return [Trace(float(at), f"{task} {index} try {number}", int(pid)) for at, task, index, number, pid in fields]


def _same_state(run: Run, state: str) -> bool:
    if run.state in {RunState.STOPPED, RunState.STOPPING}:
        return state in {"failed", "success"}
    return bool(run.state == state)


def _same_time(ours: datetime | None, theirs: str | None) -> bool:
    return ours == (datetime.fromisoformat(theirs) if theirs else None)


def _differences(ours: TaskInstance, theirs: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield what differs in one task instance, as its name and both values."""
    if ours.state != (theirs["state"] or ""):
        yield "task state", ours.state, theirs["state"]
    if ours.try_number != theirs["try_number"]:
        yield "task try", ours.try_number, theirs["try_number"]
    for name, at in (("start_date", ours.started_at), ("end_date", ours.ended_at)):
        if not _same_time(at, theirs[name]):
            yield f"task {name}", f"{at} ({ours.state})", theirs[name]
