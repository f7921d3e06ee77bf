"""Copies of logs on disk, one per attempt, shared by all readers of this process.

Airflow parses all of a log for each request, and its continuation tokens neither save that nor exist for a log that
has ended. So each log is read by one thread at a time, however many readers it has, and pages come from the copy. The
files have no name: they are gone when the process ends.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
import time
import weakref
from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from django.conf import settings

from workflows import gateway
from workflows.airflow import AirflowClient
from workflows.airflow.errors import AirflowBusyError, AirflowError, AirflowProtocolError
from workflows.airflow.tasklog import LogEnd, end_of
from workflows.airflow.types import LogLine
from workflows.states import TASK_TRY_ENDED

logger = logging.getLogger(__name__)

# A log without an exit proof counts as ended this long after its task. When somebody marks a task from outside, its
# process goes on writing for about ten seconds.
LAST_WORDS = timedelta(seconds=30)
# The pause before a copy is renewed, in times that reading the log took. So its readers keep Airflow busy for at most a
# fifth of the time.
PAUSE_PER_READING = 4
LONGEST_PAUSE = 120.0
QUICK = 5.0  # seconds of a reading that is quick
LINES_AT_ONCE = 500
CHARS_AT_ONCE = 500_000
FORGOTTEN_AFTER = 3600.0  # seconds without a reader


@dataclass(frozen=True)
class Attempt:
    """One try of one task instance, as its Airflow names it."""

    airflow: str
    dag_id: str
    dag_run_id: str
    task_id: str
    map_index: int
    try_number: int


@dataclass(frozen=True)
class Seen:
    """A task instance at the last look at it."""

    try_number: int
    state: str | None
    ended_at: datetime | None


class Copy:
    """The lines of one log so far. Its condition guards every field, and wakes readers when something changes."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(dir=settings.LOG_CACHE_DIR or None, buffering=0)  # noqa: SIM115 - see below
        # Closed when no reader and no thread has the copy any more.
        weakref.finalize(self, self._file.close)
        # Where each line begins, and where the next one will.
        self._starts = array("Q", [0])
        self.changed = threading.Condition()
        self.seen: Seen | None = None
        self.is_being_read = False
        self.is_whole = False
        self.is_full = False
        self.has_ended = False
        self.end: LogEnd | None = None
        self.counted = 0
        self.took = 0.0
        self.error: AirflowError | None = None
        self.began_at = self.due_at = self.used_at = time.monotonic()

    @property
    def lines(self) -> int:
        return len(self._starts) - 1

    @property
    def size(self) -> int:
        """Return the bytes that the copy takes, on disk and in memory."""
        return self._starts[-1] + len(self._starts) * self._starts.itemsize

    def is_due(self, *, hurried: bool) -> bool:
        """Return whether the log has to be read: it has not ended, no thread reads it, and the pause is over."""
        if hurried and self.took < QUICK:
            return not self.is_being_read
        return not (self.has_ended or self.is_being_read or time.monotonic() < self.due_at)

    def wait_for(self, is_enough: Callable[[], bool], *, seconds: float) -> bool:
        with self.changed:
            return self.changed.wait_for(is_enough, timeout=seconds)

    @property
    def waited(self) -> float:
        """Return the seconds since the reading began."""
        return time.monotonic() - self.began_at

    def has(self, first: int, *, limit: int, most_bytes: int) -> bool:
        """Return whether a page from `first` on would be full."""
        with self.changed:
            first = min(first, self.lines)
            return self.lines - first >= limit or self._starts[-1] - self._starts[first] > most_bytes

    def page(self, first: int, *, limit: int, most_bytes: int) -> list[LogLine]:
        """Return at most `limit` lines from `first` on: at least one if there is one, and about `most_bytes`."""
        with self.changed:
            last = first = min(first, self.lines)
            while last < min(first + limit, self.lines) and self._starts[last] - self._starts[first] <= most_bytes:
                last += 1
            start, end = self._starts[first], self._starts[last]
        return [_decoded(line) for line in self._stored(start, end).splitlines()]

    def tail_begins(self, count: int, *, most_bytes: int) -> int:
        """Return the number of the first of the last `count` lines, or of fewer if they are long."""
        with self.changed:
            first = self.lines
            while first > max(0, self.lines - count) and self._starts[-1] - self._starts[first] <= most_bytes:
                first -= 1
            return first

    def add(self, lines: Iterable[LogLine]) -> None:
        encoded = [_encoded(line) for line in lines]
        rest, at = memoryview(b"".join(encoded)), self._starts[-1]
        while rest:
            written = os.pwrite(self._file.fileno(), rest, at)
            rest, at = rest[written:], at + written
        with self.changed:
            for line in encoded:
                self._starts.append(self._starts[-1] + len(line))
            self.changed.notify_all()

    def _stored(self, start: int, end: int) -> bytes:
        return os.pread(self._file.fileno(), end - start, start)


def _encoded(line: LogLine) -> bytes:
    moment = line.timestamp.isoformat() if line.timestamp else None
    # JSON escapes every character that ends a line.
    return json.dumps([moment, line.level, line.text, line.is_cut]).encode("ascii") + b"\n"


def _decoded(raw: bytes) -> LogLine:
    moment, level, text, is_cut = json.loads(raw)
    timestamp = datetime.fromisoformat(moment) if moment else None
    return LogLine(timestamp=timestamp, level=level, text=text, is_cut=is_cut)


class Copies:
    """The copies of this process, `LOG_CACHE_BYTES` at most. The one that nobody has read for longest goes first."""

    def __init__(self) -> None:
        self._place_freed = threading.Condition()
        self._copies: OrderedDict[Attempt, Copy] = OrderedDict()
        self._readings: Counter[int] = Counter()

    def known(self, attempt: Attempt) -> Copy | None:
        return self._copies.get(attempt)

    def of(self, attempt: Attempt) -> Copy:
        """Return the copy of the attempt's log, which may be empty."""
        with self._place_freed:
            if attempt not in self._copies:
                self._copies[attempt] = _new_copy()
            self._copies.move_to_end(attempt)
            copy = self._copies[attempt]
            copy.used_at = time.monotonic()
            return copy

    def claim(self, copy: Copy, *, user_id: int, wait: float, hurried: bool = False) -> bool:
        """Return whether the caller has to renew the copy now, and then must call `renew` or `release`.

        `hurried` is for callers that cannot wait for the pause; it is kept if the log takes long to read. Raise
        `AirflowBusyError` if the user has all connections that one user may have, for `wait` seconds.
        """
        if not copy.is_due(hurried=hurried):
            return False
        self._take_place(user_id, wait=wait)
        with copy.changed:
            if copy.is_due(hurried=hurried):
                copy.is_being_read = True
                copy.began_at = time.monotonic()
                return True
        self._free_place(user_id)
        return False

    def renew(self, attempt: Attempt, copy: Copy, seen: Seen, *, user_id: int, now: datetime) -> None:
        """Read the log in a thread. `seen` is how the task was just before."""
        self._make_room()
        copy.seen = seen
        error: AirflowError = AirflowBusyError("the log is not read now")
        is_started = False
        try:
            # Here, and not in the thread, which has no connection to the database.
            client = gateway.client_of(attempt.airflow, purpose=gateway.Purpose.LOGS)
            threading.Thread(target=self._read, args=(client, attempt, copy, seen, user_id, now), daemon=True).start()
            is_started = True
        except AirflowError as exc:
            error = exc
        except RuntimeError:
            # The system gives no more threads.
            error = AirflowBusyError("there is no thread to read the log")
        finally:
            if not is_started:
                self.release(copy, user_id=user_id, error=error)

    def release(self, copy: Copy, *, user_id: int, error: AirflowError | None) -> None:
        """Let the next reader renew the copy, after a pause."""
        self._free_place(user_id)
        with copy.changed:
            copy.took = time.monotonic() - copy.began_at
            pause = min(PAUSE_PER_READING * copy.took, LONGEST_PAUSE) if error is None else 0.0
            copy.due_at = time.monotonic() + max(settings.LOG_REFRESH, pause)
            copy.is_being_read = False
            copy.error = error
            copy.changed.notify_all()

    def _take_place(self, user_id: int, *, wait: float) -> None:
        most = max(1, settings.AIRFLOW_POOL_LOGS - 1)
        with self._place_freed:
            if not self._place_freed.wait_for(lambda: self._readings[user_id] < most, timeout=wait):
                raise AirflowBusyError(f"you already read {most} logs at once")
            self._readings[user_id] += 1

    def _free_place(self, user_id: int) -> None:
        with self._place_freed:
            self._readings[user_id] -= 1
            if not self._readings[user_id]:
                del self._readings[user_id]
            self._place_freed.notify_all()

    def _read(
        self, client: AirflowClient, attempt: Attempt, copy: Copy, seen: Seen, user_id: int, now: datetime
    ) -> None:
        error: AirflowError | None = AirflowProtocolError("the log cannot be read")
        try:
            with gateway.patient(client):
                ending = client.tasks.ending()
                with closing(_log_lines(client, attempt)) as lines:
                    end = end_of(_stored(copy, lines), ending)
            error, copy.end = None, end
            # If there are as many lines as before, the known ones still exist; fewer lines are another log.
            if copy.is_full or copy.counted >= copy.lines:
                with copy.changed:
                    copy.is_whole = True
                    copy.has_ended = copy.is_full or _has_ended(seen, attempt.try_number, end, now=now)
            else:
                self._forget(attempt, copy)
        except AirflowError as exc:
            error = exc
        except OSError as exc:
            logger.exception("a log cannot be kept", extra={"task_id": attempt.task_id})
            error = _no_room(exc)
            self._forget(attempt, copy)
        finally:
            self.release(copy, user_id=user_id, error=error)

    def _forget(self, attempt: Attempt, copy: Copy) -> None:
        with self._place_freed:
            if self._copies.get(attempt) is copy:
                del self._copies[attempt]

    def _make_room(self) -> None:
        """Drop copies until a log of any size has room, and those that nobody has read for long."""
        now = time.monotonic()
        with self._place_freed:
            used = sum(copy.size for copy in self._copies.values())
            for attempt, copy in list(self._copies.items()):
                is_needed = used <= settings.LOG_CACHE_BYTES - settings.LOG_COPY_BYTES
                if copy.is_being_read or (is_needed and now - copy.used_at < FORGOTTEN_AFTER):
                    continue
                used -= copy.size
                del self._copies[attempt]


def _log_lines(client: AirflowClient, attempt: Attempt) -> Generator[LogLine, None, None]:
    at = {"try_number": attempt.try_number, "map_index": attempt.map_index}
    return client.tasks.log_lines(attempt.dag_id, attempt.dag_run_id, attempt.task_id, **at)


def _new_copy() -> Copy:
    try:
        return Copy()
    except OSError as exc:
        raise _no_room(exc) from exc


def _no_room(exc: OSError) -> AirflowBusyError:
    return AirflowBusyError(f"there is no room for a copy of the log ({exc.strerror or exc})")


def _stored(copy: Copy, lines: Iterable[LogLine]) -> Iterator[LogLine]:
    """Yield the lines of a log, and add those that are new to the copy, as long as it has room."""
    known, copy.counted = copy.lines, 0
    for batch in _batches(lines):
        copy.counted += len(batch)
        if copy.counted > known and not copy.is_full:
            copy.add(batch[known - copy.counted :])
            if copy.size > settings.LOG_COPY_BYTES:
                text = f"SVOps shows the first {settings.LOG_COPY_BYTES:,} bytes of a log. Read the rest in Airflow."
                copy.add([LogLine(timestamp=None, level="warning", text=text, is_cut=True)])
                copy.is_full = True
        yield from batch


def _batches(lines: Iterable[LogLine]) -> Iterator[list[LogLine]]:
    batch: list[LogLine] = []
    chars = 0
    for line in lines:
        batch.append(line)
        chars += len(line.text)
        if len(batch) == LINES_AT_ONCE or chars > CHARS_AT_ONCE:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _has_ended(seen: Seen, try_number: int, end: LogEnd, *, now: datetime) -> bool:
    if try_number < seen.try_number:
        return True
    if (seen.state or "") not in TASK_TRY_ENDED:
        return False
    is_quiet = seen.ended_at is None or now - seen.ended_at > LAST_WORDS
    return end.has_ended or is_quiet


@cache
def copies() -> Copies:
    """Return the copies of this process."""
    return Copies()
