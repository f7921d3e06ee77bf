"""Logs of tasks, read from Airflow page by page: a page is bounded, however large the log."""

from __future__ import annotations

import base64
import json
import re
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self

from svops.errors import InvalidInputError, NotFoundError
from svops.times import iso
from workflows import upstream
from workflows.airflow import AirflowClient
from workflows.airflow.errors import AirflowNotFoundError, AirflowRejectedError
from workflows.airflow.tasklog import Ending
from workflows.airflow.types import LogLine, TaskInstance
from workflows.models import Run
from workflows.models import TaskInstance as StoredTask
from workflows.states import TASK_OVER

LARGEST_PAGE = 10_000
PAGE_CHARS = 1_000_000
# A log without a proof of its end counts as ended so long after its task: the process of one that was marked from
# outside writes on for ten seconds or so.
LAST_WORDS = timedelta(seconds=30)
READING_LIMIT = 5.0  # seconds for which a log is searched for an error
LONGEST_ERROR = 500
# The last line of a traceback.
_EXCEPTION = re.compile(r"(\w+\.)*\w*(Error|Exception|Exit|Interrupt|Timeout|Failure)(: |$)")


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """How many lines of which attempt a reader has had."""

    try_number: int
    lines: int

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(json.dumps([self.try_number, self.lines]).encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Self:
        try:
            read = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except ValueError:
            read = None
        match read:
            case [int(try_number), int(lines)] if try_number >= 0 and lines >= 0:
                return cls(try_number=try_number, lines=lines)
        raise InvalidInputError({"cursor": ["Expected the cursor of an earlier answer."]})


@dataclass(frozen=True, kw_only=True)
class LogQuery:
    """What a reader asks for. Without `cursor` and `try_number` it is the newest attempt, from its first line."""

    task_id: str
    map_index: int = -1
    try_number: int | None = None
    cursor: Cursor | None = None
    tail: int | None = None
    limit: int = 1000


@dataclass(frozen=True, kw_only=True)
class LogPage:
    """Lines of a log, and where to go on.

    `has_more`: the log goes on behind them already. `ended`: it will never, the process that wrote it is gone.
    """

    lines: Sequence[LogLine]
    cursor: Cursor
    has_more: bool
    ended: bool
    task_id: str
    map_index: int
    state: str | None

    def as_json(self) -> dict[str, Any]:
        return {
            "task_id": self.task_id,
            "map_index": self.map_index,
            "try_number": self.cursor.try_number,
            "state": self.state,
            "lines": [_as_json(line) for line in self.lines],
            "cursor": str(self.cursor),
            "has_more": self.has_more,
            "ended": self.ended,
        }


def _as_json(line: LogLine) -> dict[str, Any]:
    return {"timestamp": iso(line.timestamp) if line.timestamp else None, "level": line.level, "text": line.text}


def read(run: Run, query: LogQuery, *, now: datetime) -> LogPage:
    """One page of a log. Raises `NotFoundError` for a task or attempt that is not there, and what `translated` does."""
    with upstream.translated():
        try:
            with upstream.watched() as client:
                task = client.tasks.get(run.dag_id, run.dag_run_id, query.task_id, map_index=query.map_index)
                try_number = _wanted_try(task, query)
                # 2.11 answers an attempt that there never was with a log of nothing.
                if try_number <= task.try_number:
                    return _page(client, task, query, try_number, now=now)
        except (AirflowNotFoundError, AirflowRejectedError) as exc:
            raise _not_found(run, query) from exc
    raise NotFoundError(f"The task {query.task_id} has no attempt {try_number}; the newest is {task.try_number}.")


def _wanted_try(task: TaskInstance, query: LogQuery) -> int:
    if query.cursor:
        return query.cursor.try_number
    return task.try_number if query.try_number is None else query.try_number


def _page(client: AirflowClient, task: TaskInstance, query: LogQuery, try_number: int, *, now: datetime) -> LogPage:
    ending = client.tasks.ending()
    taken = _Taken([], 0, False)
    if try_number:
        at = {"try_number": try_number, "map_index": task.map_index}
        with closing(client.tasks.log_lines(task.dag_id, task.dag_run_id, task.task_id, **at)) as lines:
            taken = _take(lines, query, ending)
    return LogPage(
        lines=taken.lines,
        cursor=Cursor(try_number=try_number, lines=taken.read_to),
        has_more=taken.has_more,
        ended=not taken.has_more and _is_over(task, try_number, ending, now=now),
        task_id=task.task_id,
        map_index=task.map_index,
        state=task.state if try_number == task.try_number else None,
    )


class _Taken(NamedTuple):
    lines: Sequence[LogLine]
    read_to: int
    has_more: bool


def _take(lines: Iterable[LogLine], query: LogQuery, ending: Ending) -> _Taken:
    """The page that `query` asks for; what it skips is read and dropped, since Airflow knows no other way."""
    skip = query.cursor.lines if query.cursor else 0
    page: deque[LogLine] = deque()
    read_to = chars = 0
    for line in lines:
        is_full = len(page) >= (query.tail or query.limit) or chars > PAGE_CHARS
        if is_full and query.tail is None:
            return _Taken(page, read_to, has_more=True)
        ending.see(line)
        read_to += 1
        if read_to > skip:
            if is_full:
                chars -= len(page.popleft().text)
            page.append(line)
            chars += len(line.text)
    return _Taken(page, max(read_to, skip), has_more=False)


def _is_over(task: TaskInstance, try_number: int, ending: Ending, *, now: datetime) -> bool:
    if try_number < task.try_number:
        return True
    if (task.state or "") not in TASK_OVER:
        return False
    is_quiet = task.end_date is None or now - task.end_date > LAST_WORDS
    return try_number == 0 or ending.is_over or is_quiet


def error_in(client: AirflowClient, run: Run, task: StoredTask) -> str:
    """What the log of a failed task says went wrong, as one line; empty where it does not, or takes too long."""
    error = ""
    at = {"try_number": task.try_number, "map_index": task.map_index}
    # Looked at here and not by a limit of the client: a log that is long or slow is no Airflow that is away.
    end = time.monotonic() + READING_LIMIT
    with closing(client.tasks.log_lines(run.dag_id, run.dag_run_id, task.task_id, **at)) as lines:
        for line in lines:
            if time.monotonic() > end:
                return ""
            last = line.text.rstrip().rpartition("\n")[2].strip()
            if line.level in {"error", "critical"} or _EXCEPTION.match(last):
                error = last
    return error[:LONGEST_ERROR]


def _not_found(run: Run, query: LogQuery) -> NotFoundError:
    """What exactly is not there."""
    with upstream.watched() as client:
        tasks = client.tasks.list(dag_run_ids={run.dag_id: [run.dag_run_id]})
    indexes = sorted(task.map_index for task in tasks if task.task_id == query.task_id)
    if query.map_index in indexes:
        return NotFoundError(f"Airflow has no log of this attempt of the task {query.task_id}.")
    if indexes == [-1]:
        return NotFoundError(f"The task {query.task_id} is not mapped: leave map_index out.")
    if indexes:
        detail = f"The task {query.task_id} has instances of its own: name one by map_index."
        return NotFoundError(detail, extra={"map_indexes": [index for index in indexes if index >= 0]})
    known = ", ".join(sorted({task.task_id for task in tasks})) or "none yet"
    return NotFoundError(f"The run has no task {query.task_id} in Airflow; it has: {known}.")
