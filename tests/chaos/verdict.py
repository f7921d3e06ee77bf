"""Compares, once all is quiet, what SVOps says with what Airflow's own API says, and lists every violation.

Imported only after Django is set up: it reads SVOps' tables directly.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q
from django.utils import timezone

from accounts import audit
from notifications.models import Delivery, NotificationConfig, Status
from tests.chaos import airflow_view, history
from tests.chaos.accepted import Accepted
from tests.chaos.journal import Journal
from tests.chaos.stand import DAG_IDS, Stand, is_task_process
from tests.chaos.violation import Violation
from tests.live.readers import Reader
from workflows.models import Airflow, AirflowCommand, Event, Run, TaskInstance
from workflows.states import OPEN, RunState

ALIVE_IN_AIRFLOW = {"running", "queued", "scheduled", "restarting", "deferred", "up_for_reschedule", "up_for_retry"}


@dataclass(frozen=True)
class Trace:
    """A line that a task has written while it worked."""

    at: float
    task: str
    pid: int


class Verdict:
    """`violations` of all runs since `since`, seen at one moment."""

    def __init__(self, stand: Stand, journal: Journal, accepted: Accepted, *, since: datetime, seed: int) -> None:
        self._stand = stand
        self._journal = journal
        self._accepted = accepted
        self._seed = seed
        found = Run.objects.prefetch_related("tasks").filter(dag_id__in=DAG_IDS, created_at__gte=since)
        self.runs = {run.dag_run_id: run for run in found}
        everything = airflow_view.runs(stand)
        self._all_in_airflow = everything
        self.in_airflow = {name: run for name, run in everything.items() if name in self.runs}
        self.tasks = airflow_view.tasks(stand, self.in_airflow)
        self.questions = airflow_view.questions(stand)
        self.events: defaultdict[Any, list[Event]] = defaultdict(list)
        for event in Event.objects.filter(run__in=[run.pk for run in self.runs.values()]).order_by("run", "seq"):
            self.events[event.run_id].append(event)

    def violations(
        self, readers: Iterable[Reader], received: Counter[tuple[int, str]], *, cursor: int
    ) -> list[Violation]:
        """Return every promise that does not hold; `cursor` is where the readers began to read."""
        found = list(self._accepted_once())
        for dag_run_id, run in self.runs.items():
            found += self._at_rest(run)
            found += self._as_in_airflow(run, self.in_airflow.get(dag_run_id))
            found += history.contradictions(run, self.events[run.pk], self._accepted)
            found += self._questions_told(run)
            found += self._nothing_lives_behind_its_stop(run)
        return [
            *found,
            *_streams(readers, cursor=cursor),
            *_deliveries(received),
            *_leases(),
            *self._audit(),
            *self._answers(),
            *self._deaths(),
        ]

    # --- triggers ---------------------------------------------------------------------------------------

    def _accepted_once(self) -> Iterator[Violation]:
        known = {str(run.pk): run for run in self.runs.values()}
        for run_id in self._accepted.runs.keys() - known.keys():
            yield Violation("an accepted trigger is kept", "SVOps has no such run", run_id)
        for run_id in self._accepted.runs.keys() & known.keys():
            yield from self._has_one_run(known[run_id])
        labels = Counter(label for label in map(_label, self._all_in_airflow.values()) if label in self._accepted.sent)
        for label, times in labels.items():
            if times > 1:
                yield Violation("one Airflow run for a trigger", f"{times} for {label}")
        ours = {name for name, run in self._all_in_airflow.items() if _label(run) in self._accepted.sent}
        for dag_run_id in ours - self.runs.keys():
            yield Violation("every Airflow run of ours is known", dag_run_id)

    def _has_one_run(self, run: Run) -> Iterator[Violation]:
        exists = run.dag_run_id in self.in_airflow
        was_stopped_first = run.queued_at is None and run.state == RunState.STOPPED
        deleted = self._accepted.changes(run.dag_run_id, "delete")
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
            if run.queued_at and not self._accepted.changes(run.dag_run_id, "delete"):
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
        changed = self._accepted.changes(run.dag_run_id, "clear", "mark", "mark task", "delete")
        was_stopped = run.stop_requested_at is not None
        if changed or was_stopped or run.attempt > 1 or run.state not in {RunState.SUCCESS, RunState.FAILED}:
            return
        ids = {str(task["id"]) for task in self.tasks[run.dag_run_id].values()}
        asked = {name: detail for name, detail in self.questions.items() if name in ids}
        yield from history.untold(run, self.events[run.pk], asked)

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
        for begin, end in history.stopped_periods(run, self.events[run.pk], self._accepted):
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
        path = self._stand.witnesses / run.dag_run_id
        lines = path.read_text().splitlines() if path.is_file() else []
        fields = [line.split() for line in lines]
        return [Trace(float(at), f"{task} {index} try {number}", int(pid)) for at, task, index, number, pid in fields]

    # --- the rest ---------------------------------------------------------------------------------------

    def _audit(self) -> Iterator[Violation]:
        if broken := audit.verify().broken:
            yield Violation("the audit chain is whole", str(broken))

    def _answers(self) -> Iterator[Violation]:
        for entry in self._journal.unexplained():
            yield Violation("a 5xx has a cause", f"{entry.at:%H:%M:%S} {entry}", entry.run_id, lasting=True)

    def _deaths(self) -> Iterator[Violation]:
        for fault in self._journal.faults:
            if fault.kind == "died by itself" and fault.target in {"web", "worker", "beat"}:
                yield Violation("a part of SVOps outlives what it needs", f"{fault.target} ended", lasting=True)


def _label(run: dict[str, Any]) -> str:
    return str((run["conf"] or {}).get("label", ""))


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


def _streams(readers: Iterable[Reader], *, cursor: int) -> Iterator[Violation]:
    """Each reader has to have every position after the cursor that it began with, in order and once."""
    after = Event.objects.filter(position__gt=cursor).order_by("position")
    expected = [position for position in after.values_list("position", flat=True) if position is not None]
    for reader in readers:
        if reader.wrong or reader.ids != expected:
            yield Violation("a client's log is the table", reader.describe(expected))


def _deliveries(received: Counter[tuple[int, str]]) -> Iterator[Violation]:
    for config in NotificationConfig.objects.filter(channel="webhook"):
        types = [name.replace("_", ".", 1) for name in config.notification_types]
        matching = Event.objects.filter(type__in=types, timestamp__gte=config.created_at)
        without = matching.exclude(deliveries__config=config)
        if count := without.count():
            yield Violation("a delivery for each event", f"{count} events have none, as {without[0].pk}")
    overdue = Delivery.objects.filter(status=Status.PENDING, due_at__lt=timezone.now())
    if count := overdue.count():
        yield Violation("no delivery is forgotten", f"{count} are overdue")
    if count := Delivery.objects.filter(status__in=(Status.FAILED, Status.SUPPRESSED)).count():
        yield Violation("no delivery is given up", f"{count}")
    per_event: Counter[int] = Counter(event_id for event_id, _ in received)
    for event_id, count in per_event.items():
        if count > 1:
            yield Violation("no event is notified twice as new", f"event {event_id} under {count} message ids")
    delivered = Delivery.objects.filter(status=Status.DELIVERED, event__isnull=False, config__channel="webhook")
    for position in delivered.values_list("event__position", flat=True):
        if position not in per_event:
            yield Violation("what is called delivered has arrived", f"event {position}")


def _leases() -> Iterator[Violation]:
    now = timezone.now()
    held = AirflowCommand.objects.filter(finished_at__isnull=True, leased_until__lt=now)
    if count := held.count():
        yield Violation("no lease of the dead", f"{count} commands")
    if Airflow.objects.filter(Q(dispatch_leased_until__lt=now) | Q(leased_until__lt=now)).exists():
        yield Violation("no lease of the dead", "of the poll or the dispatch")
    if count := Delivery.objects.filter(status=Status.PENDING, leased_until__lt=now).count():
        yield Violation("no lease of the dead", f"{count} deliveries")
    waiting = AirflowCommand.objects.filter(finished_at__isnull=True)
    if count := waiting.count():
        yield Violation("no command is forgotten", f"{count}: {[str(command) for command in waiting[:5]]}")


def story(journal: Journal, runs: Sequence[Run], run_id: str) -> list[str]:
    """Return all that is known of a run in order: requests and faults, and the events of SVOps."""
    lines = [*journal.story(run_id)]
    for event in Event.objects.filter(run_id=run_id):
        data = {name: value for name, value in event.data.items() if value not in (None, "")}
        lines.append((event.timestamp, f"    event {event.seq} {event.type} {event.task_id} {data}"))
    return [f"{at:%H:%M:%S.%f} {text}" for at, text in sorted(lines, key=lambda line: line[0])]
