"""What the events of one run, and those of outages, may never say, whatever has happened."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from tests.chaos.accepted import Accepted
from tests.chaos.violation import Violation
from workflows.models import Event, Run
from workflows.states import TERMINAL

RUN_ENDS = {"workflow.completed", "workflow.failed", "workflow.stopped"}
AGAIN = {"workflow.retried", "workflow.external_change"}
OUTAGE = (DOWN, UP) = ("system.airflow_down", "system.airflow_up")
TASK_ENDS = {"task.completed", "task.failed", "task.retrying", "task.skipped"}


def contradictions(run: Run, events: Sequence[Event], accepted: Accepted) -> Iterator[Violation]:
    run_id = str(run.pk)
    if [event.seq for event in events] != list(range(1, len(events) + 1)):
        yield Violation("seq has no gaps", str([event.seq for event in events]), run_id)
    marked = {one.task_id for one in accepted.changes(run.dag_run_id, "mark task")}
    attempts = list(_attempts(events))
    for attempt in attempts:
        yield from _end_last(run_id, attempt, marked)
    yield from _once(run, attempts, accepted)
    yield from _conversations(run_id, events)
    last = [event.type for event in attempts[-1] if event.type in RUN_ENDS] if attempts else []
    if run.state in TERMINAL and not last:
        yield Violation("an ended run has its end in the log", run.state, run_id)


def _attempts(events: Sequence[Event]) -> Iterator[list[Event]]:
    """Divide the events of a run at each retry, clear or mark. Each of these begins a new list."""
    attempt: list[Event] = []
    for event in events:
        again = event.type == "workflow.retried" or (
            event.type == "workflow.external_change" and event.data["change"] in {"cleared", "marked", "recreated"}
        )
        if again and attempt:
            yield attempt
            attempt = []
        attempt.append(event)
    if attempt:
        yield attempt


def _end_last(run_id: str, attempt: Sequence[Event], marked: set[str]) -> Iterator[Violation]:
    """Nothing follows the end of a run, but that it was deleted in Airflow, or that somebody marked a task there."""
    ended = ""
    for event in attempt:
        if ended and not _may_follow(event, marked):
            yield Violation(
                "the end of a run comes last", f"{event.type} {event.task_id} behind {ended}", run_id, lasting=True
            )
        if event.type in RUN_ENDS:
            ended = event.type


def _may_follow(event: Event, marked: set[str]) -> bool:
    if event.type == "workflow.external_change":
        return bool(event.data["change"] == "deleted")
    return event.type in TASK_ENDS and event.task_id in marked


def _once(run: Run, attempts: Sequence[Sequence[Event]], accepted: Accepted) -> Iterator[Violation]:
    """Each try starts once and ends once, and not before it has started. Each mark in Airflow allows one more end.

    Marking a run in Airflow 3.3.2 (`mark_tasks.py`) gives its running tasks the new state. Among these are tasks whose
    process has just ended and reported that, and all instances of a mapped task if one of them is at work.
    """
    run_id = str(run.pk)
    marks = len(accepted.changes(run.dag_run_id, "mark"))
    marks_of_task = Counter(one.task_id for one in accepted.changes(run.dag_run_id, "mark task"))
    count: Counter[tuple[Any, ...]] = Counter()
    for number, attempt in enumerate(attempts):
        for event in attempt:
            if not event.type.startswith("task."):
                continue
            # Airflow may repeat a try under another id: that is another execution.
            key = (event.task_id, *(event.data.get(name) for name in ("map_index", "try_number", "instance_id")))
            if event.type == "task.started":
                count[*key, "start"] += 1
                if count[*key, "end"]:
                    yield Violation("no end before its start", f"{key} in attempt {number + 1}", run_id, lasting=True)
            elif event.type == "task.skipped":
                # What never ran keeps its try, and may be skipped again in each attempt.
                count[*key, "skip", number] += 1
            elif event.type in TASK_ENDS:
                count[*key, "end"] += 1
    for (task_id, *rest), times in count.items():
        ends = "start" not in rest
        if times > 1 + (marks + marks_of_task[task_id] if ends else 0):
            yield Violation("each start and each end once", f"{task_id} {rest} {times} times", run_id, lasting=True)


CONVERSATION = ["task.started", "task.awaiting_input", "task.input_received", "end"]


def _conversations(run_id: str, events: Sequence[Event]) -> Iterator[Violation]:
    """Each question is asked once and answered once, between the start and the end of its execution."""
    told: defaultdict[tuple[Any, ...], list[str]] = defaultdict(list)
    for event in events:
        kind = "end" if event.type in TASK_ENDS else event.type
        if kind in CONVERSATION:
            key = (event.task_id, *(event.data.get(name) for name in ("map_index", "try_number", "instance_id")))
            told[key].append(kind)
    for key, kinds in told.items():
        first_end = kinds.index("end") + 1 if "end" in kinds else len(kinds)
        spoken = [kind for kind in kinds if kind in CONVERSATION[1:3]]
        before_end = [kind for kind in kinds[:first_end] if kind in CONVERSATION[1:3]]
        if spoken not in ([], CONVERSATION[1:2], CONVERSATION[1:3]) or spoken != before_end:
            yield Violation("a question comes before its answer and its end", f"{key}: {kinds}", run_id, lasting=True)


def untold(run: Run, events: Sequence[Event], asked: Mapping[str, dict[str, Any]]) -> Iterator[Violation]:
    """Yield the questions and answers in Airflow that are not in the log of a run that nobody has interfered with."""
    told = {(event.type, event.data.get("instance_id")) for event in events}
    for instance_id, detail in asked.items():
        if ("task.awaiting_input", instance_id) not in told:
            yield Violation("a question is told", f"{detail['task_instance']['task_id']} {instance_id}", str(run.pk))
        if detail["responded_at"] and ("task.input_received", instance_id) not in told:
            yield Violation("an answer is told", f"{detail['task_instance']['task_id']} {instance_id}", str(run.pk))


def stopped_periods(
    run: Run, events: Sequence[Event], accepted: Accepted
) -> Iterator[tuple[datetime, datetime | None]]:
    """Yield the times in which the run was stopped: from `workflow.stopped` until somebody let it go on."""
    changes = accepted.changes(run.dag_run_id, "clear", "mark", "mark task")
    for index, event in enumerate(events):
        if event.type == "workflow.stopped":
            later = [other.timestamp for other in events[index:] if other.type in AGAIN]
            # What was sent before may arrive behind it.
            later += [max(one.sent, event.timestamp) for one in changes if one.answered >= event.timestamp]
            yield event.timestamp, min(later, default=None)


def outages(events: Iterable[Event], has_cause: Callable[[Event], bool]) -> Iterator[Violation]:
    """Each outage begins once and ends once, and is of an Airflow that had a fault."""
    last: dict[str, str] = {}
    for event in events:
        name = event.data["airflow"]
        if last.get(name) == event.type:
            yield Violation("an outage begins once and ends once", f"{event.type} of {name} again", lasting=True)
        last[name] = event.type
        if event.type == DOWN and not has_cause(event):
            what = f"{name} at {event.timestamp:%H:%M:%S}: {event.data['reason']}"
            yield Violation("an outage is of the Airflow that is down", what, lasting=True)
