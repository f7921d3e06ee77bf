"""Answer readers of logs from the copies. After a while, the answer is that Airflow is still preparing the log."""

from __future__ import annotations

import re
from datetime import datetime

from django.conf import settings

from rest.errors import ConflictError, NotFoundError
from workflows import gateway
from workflows.airflow.errors import (
    AirflowBusyError,
    AirflowError,
    AirflowNotFoundError,
    AirflowRejectedError,
    AirflowUnavailableError,
)
from workflows.airflow.tasklog import LogEnd
from workflows.airflow.types import TaskInstance
from workflows.lifecycle import deletions
from workflows.models import Run
from workflows.models import TaskInstance as StoredTask
from workflows.states import TASK_TRY_ENDED
from workflows.task_logs.copies import Attempt, Copy, Seen, copies
from workflows.task_logs.pages import Cursor, LogPage, LogQuery, Preparing

PAGE_BYTES = 1_000_000
SVOPS_ITSELF = 0  # a reader without a user
READING_LIMIT = 5.0  # seconds to wait for a log in which an error is searched
WAIT_FOR_A_PLACE = 1.0  # seconds
LINES_SEARCHED = 5000
LONGEST_ERROR = 500
# The last line of a traceback.
_EXCEPTION = re.compile(r"(\w+\.)*\w*(Error|Exception|Exit|Interrupt|Timeout|Failure)(: |$)")


def read(run: Run, query: LogQuery, *, user_id: int, now: datetime) -> LogPage | Preparing:
    """Return a page, or after `LOG_WAIT` seconds that Airflow is still preparing it.

    Raise `NotFoundError` if the task or the attempt does not exist, `ConflictError` if the run was deleted in Airflow,
    and what `translated` raises. While Airflow is known to be away, this answers at once.
    """
    with gateway.translated(run.airflow_name):
        if not gateway.answers(run.airflow_name):
            return _without_airflow(run, query)
        try:
            task = _look(run, query)
            try_number = _try_number(task, query)
            # Airflow 2.11 answers an empty log for an attempt that does not exist.
            if try_number <= task.try_number:
                return _read(run, query, _seen(task), try_number, user_id=user_id, now=now)
        except (AirflowNotFoundError, AirflowRejectedError) as exc:
            raise _not_found(run, query, now=now) from exc
    raise NotFoundError(f"The task {query.task_id} has no attempt {try_number}; the newest is {task.try_number}.")


def follow(run: Run, query: LogQuery, *, user_id: int, now: datetime) -> LogPage | Preparing:
    """Return what the copy has for a reader who knows the attempt, without waiting. It raises what `read` does.

    Airflow is asked only when the copy is due, however many readers follow the log.
    """
    try_number = query.cursor.try_number if query.cursor else query.try_number
    if not try_number:
        return read(run, query, user_id=user_id, now=now)
    attempt = _attempt(run, query, try_number)
    with gateway.translated(run.airflow_name):
        copy = copies().of(attempt)
        try:
            if _claims(copy, user_id=user_id):
                copies().renew(attempt, copy, _seen_anew(run, query, copy, user_id=user_id), user_id=user_id, now=now)
            return _page(copy, attempt, query)
        except (AirflowNotFoundError, AirflowRejectedError) as exc:
            raise _not_found(run, query, now=now) from exc


def last_error(run: Run, task: StoredTask, *, now: datetime) -> str:
    """Return the last error in the log of a failed task as one line; empty if there is none or reading takes long."""
    attempt = Attempt(run.airflow_name, run.dag_id, run.dag_run_id, task.task_id, task.map_index, task.try_number)
    copy = copies().of(attempt)
    if copies().claim(copy, user_id=SVOPS_ITSELF, wait=WAIT_FOR_A_PLACE):
        seen = Seen(try_number=task.try_number, state=task.state, ended_at=task.ended_at)
        copies().renew(attempt, copy, seen, user_id=SVOPS_ITSELF, now=now)
    copy.wait_for(lambda: not copy.is_being_read, seconds=READING_LIMIT)
    if not copy.is_whole:
        return ""
    error = ""
    first = copy.tail_begins(LINES_SEARCHED, most_bytes=PAGE_BYTES)
    for line in copy.page(first, limit=LINES_SEARCHED, most_bytes=2 * PAGE_BYTES):
        last = line.text.rstrip().rpartition("\n")[2].strip()
        if line.level in {"error", "critical"} or _EXCEPTION.match(last):
            error = last
    return error[:LONGEST_ERROR]


def end_of_log(run: Run, task: StoredTask, *, now: datetime) -> LogEnd | None:
    """Return how the log of a task ends so far, or None while Airflow is still preparing it.

    It does not wait long, so that a large log holds up no poll: the next call finds what was read meanwhile. Raise
    `AirflowError` if the log cannot be read.
    """
    attempt = Attempt(run.airflow_name, run.dag_id, run.dag_run_id, task.task_id, task.map_index, task.try_number)
    copy = copies().of(attempt)
    if copies().claim(copy, user_id=SVOPS_ITSELF, wait=0, hurried=True):
        # Without a state, the copy does not count as ended, so every later line is read: one may be the exit proof.
        seen = Seen(try_number=task.try_number, state=None, ended_at=None)
        copies().renew(attempt, copy, seen, user_id=SVOPS_ITSELF, now=now)
    copy.wait_for(lambda: not copy.is_being_read, seconds=settings.LOG_WAIT)
    with copy.changed:
        if copy.error and not copy.is_being_read:
            raise copy.error
        return copy.end


def _look(run: Run, query: LogQuery) -> TaskInstance:
    with gateway.watched(run.airflow_name) as client:
        return client.tasks.get(run.dag_id, run.dag_run_id, query.task_id, map_index=query.map_index)


def _seen(task: TaskInstance) -> Seen:
    return Seen(try_number=task.try_number, state=task.state, ended_at=task.end_date)


def _try_number(task: TaskInstance, query: LogQuery) -> int:
    if query.cursor:
        # Try 0 is that of a task that has not started. Its log is the one of the first try.
        return query.cursor.try_number or min(task.try_number, 1)
    return task.try_number if query.try_number is None else query.try_number


def _attempt(run: Run, query: LogQuery, try_number: int) -> Attempt:
    return Attempt(run.airflow_name, run.dag_id, run.dag_run_id, query.task_id, query.map_index, try_number)


def _read(
    run: Run, query: LogQuery, seen: Seen, try_number: int, *, user_id: int, now: datetime
) -> LogPage | Preparing:
    attempt = _attempt(run, query, try_number)
    if not try_number:
        return _empty(attempt, seen)
    copy = copies().of(attempt)
    if copies().claim(copy, user_id=user_id, wait=settings.LOG_WAIT):
        copies().renew(attempt, copy, seen, user_id=user_id, now=now)
    copy.seen = seen
    copy.wait_for(lambda: _is_enough(copy, query), seconds=settings.LOG_WAIT)
    return _page(copy, attempt, query)


def _claims(copy: Copy, *, user_id: int) -> bool:
    try:
        return copies().claim(copy, user_id=user_id, wait=0)
    except AirflowBusyError:
        # Somebody who follows a log loses nothing: it is read as soon as another one has been read.
        return False


def _seen_anew(run: Run, query: LogQuery, copy: Copy, *, user_id: int) -> Seen:
    """Look at the task for everybody who follows its log. The caller holds the claim, which an error gives back."""
    try:
        return _seen(_look(run, query))
    except BaseException as exc:
        copies().release(copy, user_id=user_id, error=exc if isinstance(exc, AirflowError) else None)
        raise


def _empty(attempt: Attempt, seen: Seen) -> LogPage:
    return LogPage(
        lines=[],
        cursor=Cursor(try_number=0, lines=0),
        has_more=False,
        ended=(seen.state or "") in TASK_TRY_ENDED,
        task_id=attempt.task_id,
        map_index=attempt.map_index,
        state=seen.state,
    )


def _is_enough(copy: Copy, query: LogQuery) -> bool:
    if not copy.is_being_read:
        return True
    return query.tail is None and copy.has(_skipped(query), limit=query.limit, most_bytes=PAGE_BYTES)


def _skipped(query: LogQuery) -> int:
    return query.cursor.lines if query.cursor else 0


def _page(copy: Copy, attempt: Attempt, query: LogQuery) -> LogPage | Preparing:
    """Return the page as far as the copy has it. Raise the error of the last reading if there is nothing new."""
    skip = _skipped(query)
    with copy.changed:
        state = copy.seen.state if copy.seen and copy.seen.try_number == attempt.try_number else None
        has_news = copy.lines > skip and (copy.is_whole or query.tail is None)
        if copy.error and not copy.is_being_read and not has_news and not _goes_on(copy):
            raise copy.error
        if not copy.is_whole and not has_news:
            return Preparing(
                task_id=attempt.task_id,
                map_index=attempt.map_index,
                try_number=attempt.try_number,
                state=state,
                waited_s=copy.waited,
            )
        first = skip
        if query.tail is not None:
            first = max(skip, copy.tail_begins(query.tail, most_bytes=PAGE_BYTES))
        lines = copy.page(first, limit=query.tail or query.limit, most_bytes=PAGE_BYTES)
        read_to = max(first + len(lines), skip)
        has_more = not copy.is_whole or read_to < copy.lines
        return LogPage(
            lines=lines,
            cursor=Cursor(try_number=attempt.try_number, lines=read_to),
            has_more=has_more,
            ended=copy.has_ended and not has_more,
            task_id=attempt.task_id,
            map_index=attempt.map_index,
            state=state,
        )


def _goes_on(copy: Copy) -> bool:
    """Return whether the last reading only found no connection of our own, so that the copy can still be shown."""
    return copy.is_whole and isinstance(copy.error, AirflowBusyError)


def _without_airflow(run: Run, query: LogQuery) -> LogPage | Preparing:
    """Return what the copy has, or raise that Airflow is away."""
    stored = run.tasks.filter(task_id=query.task_id, map_index=query.map_index).first()
    newest = stored.try_number if stored else 0
    try_number = query.cursor.try_number if query.cursor else query.try_number or newest
    attempt = _attempt(run, query, try_number)
    copy = copies().known(attempt)
    if copy is None or not copy.is_whole:
        raise AirflowUnavailableError("it did not answer when it was asked last", sent=False)
    return _page(copy, attempt, query)


def _not_found(run: Run, query: LogQuery, *, now: datetime) -> NotFoundError | ConflictError:
    """Return the error that says what does not exist, or that the run was deleted in Airflow."""
    with gateway.watched(run.airflow_name) as client:
        tasks = client.tasks.list(dag_run_ids={run.dag_id: [run.dag_run_id]})
        if not tasks and deletions.is_gone(client, run, now=now):
            return ConflictError("The run was deleted in Airflow, with its logs.")
    indexes = sorted(task.map_index for task in tasks if task.task_id == query.task_id)
    if query.map_index in indexes:
        return NotFoundError(f"Airflow has no log of this attempt of the task {query.task_id}.")
    if indexes == [-1]:
        return NotFoundError(f"The task {query.task_id} is not mapped: send no map_index.")
    if indexes:
        detail = f"The task {query.task_id} is mapped: choose an instance with map_index."
        return NotFoundError(detail, extra={"map_indexes": [index for index in indexes if index >= 0]})
    known = ", ".join(sorted({task.task_id for task in tasks})) or "none yet"
    return NotFoundError(f"The run has no task {query.task_id} in Airflow; it has: {known}.")
