"""Dispatch everything that is due to an Airflow, several commands at once.

The commands are in lines: the triggers of a workflow, the commands of a run or of a DAG. Each line is worked through in
order, one command at a time, and does not wait for the others. One worker at a time does this for an Airflow; each
command has a lease of its own beside, so nothing is lost or sent by two if that worker dies or loses its turn.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection
from django.db.models import Q
from django.utils import timezone

from workflows import gateway, leases
from workflows.dispatch import sending
from workflows.dispatch.sending import Sent
from workflows.models import Airflow, AirflowCommand, AirflowQuerySet, CommandKind

# After so long, commands that came meanwhile get their turn too.
ROUND = 1.0  # seconds
MOST_IN_LINE = 10_000


def dispatch_due(airflow: str, *, now: datetime) -> int:
    """Dispatch what is due to an Airflow, each command once at most. Return how many were taken.

    While it is down nothing is tried: the poll, every few seconds, notices when it is back.
    """
    row = Airflow.objects.filter(pk=Airflow.named(airflow).pk)
    tried: set[int] = set()
    taken = 0
    while True:
        lease = _Lease.taken(row, now)
        if lease is None:
            return taken
        try:
            _give_up_overdue(airflow, now)
            while lease.renewed() and gateway.answers(airflow) and (lines := _lines_due(airflow, now, without=tried)):
                done = _Round(airflow, lines, now)
                taken += done.work()
                tried |= done.tried
        finally:
            lease.give_back()
        # Whoever found the lease taken has left its command to us.
        if not gateway.answers(airflow) or not _lines_due(airflow, now, without=tried):
            return taken


class _Lease:
    """The turn of one worker to dispatch. It expires soon after the worker has died."""

    def __init__(self, row: AirflowQuerySet, now: datetime, until: datetime) -> None:
        self._row, self._now, self._until = row, now, until

    @classmethod
    def taken(cls, row: AirflowQuerySet, now: datetime) -> _Lease | None:
        lease = cls(row, now, now)
        return lease if lease._take(leases.free(now, field="dispatch_leased_until")) else None

    def renewed(self) -> bool:
        """Renew it. Return whether it was still ours."""
        return self._take(Q(dispatch_leased_until=self._until))

    def give_back(self) -> None:
        # Only our own: if it has expired, another worker may have taken it.
        self._row.filter(dispatch_leased_until=self._until).update(dispatch_leased_until=None)

    def _take(self, where: Q) -> bool:
        until = _moment(self._now) + sending.lease_time()
        if self._row.filter(where).update(dispatch_leased_until=until) != 1:
            return False
        self._until = until
        return True


def _moment(now: datetime) -> datetime:
    """Return the time, which passes while the caller's `now` does not."""
    return max(now, timezone.now())


def _give_up_overdue(airflow: str, now: datetime) -> None:
    """Give up the triggers whose deadline has passed while the Airflow was down."""
    limit = now - timedelta(seconds=settings.DISPATCH_DEADLINE)
    pending = AirflowCommand.objects.pending().free(now).filter(airflow__name=airflow)
    triggers = pending.filter(kind=CommandKind.TRIGGER, held=False)
    overdue = triggers.filter(created_at__lt=limit).exclude(run__run_at__gte=limit)
    for command in overdue:
        reason = command.last_error or "it did not answer"
        sending.give_up(command, reason=f"{reason}; the deadline has passed", now=now)


Line = deque[int]


def _lines_due(airflow: str, now: datetime, *, without: Collection[int]) -> list[Line]:
    """Return the ids of the due commands in lines, each in order.

    What is no trigger comes first: a stop is urgent. Results come last, and nothing waits for them.
    """
    commands = AirflowCommand.objects.due(_moment(now)).filter(airflow__name=airflow)
    due = commands.order_by("id").values_list("id", "kind", "workflow", "run", "dag")
    triggers: defaultdict[int | None, Line] = defaultdict(deque)
    others: defaultdict[tuple[object, object], Line] = defaultdict(deque)
    line_of_run: dict[object, Line] = {}
    results: list[Line] = []
    for pk, kind, workflow, run, dag in due[:MOST_IN_LINE]:
        if pk in without:
            continue
        if kind == CommandKind.RESULT:
            results.append(deque([pk]))
            continue
        if kind == CommandKind.TRIGGER:
            line_of_run[run] = triggers[workflow]
        # What follows the trigger of its run is in the same line.
        line = line_of_run.get(run) if run else None
        (others[run, dag] if line is None else line).append(pk)
    return [*others.values(), *triggers.values(), *results]


class _Round:
    """Works through lines for about `ROUND` seconds, in as many threads as there are connections to spare.

    A thread takes a line, sends its first command, and puts the line back behind the others. `tried` has the commands
    that were tried, and those behind one that Airflow did not take.
    """

    def __init__(self, airflow: str, lines: Iterable[Line], now: datetime) -> None:
        self._airflow = airflow
        self.tried: set[int] = set()
        self._lines = deque(lines)
        self._now = now
        self._ends = time.monotonic() + ROUND
        self._lock = threading.Lock()

    def work(self) -> int:
        """Return how many commands were taken."""
        threads = min(settings.AIRFLOW_POOL_CONTROL, len(self._lines), _connections_to_spare())
        if threads <= 1:
            return self._work()
        with ThreadPoolExecutor(threads, thread_name_prefix="dispatch") as pool:
            return sum(done.result() for done in [pool.submit(self._work_and_close) for _ in range(threads)])

    def _work_and_close(self) -> int:
        try:
            return self._work()
        finally:
            connection.close()

    def _work(self) -> int:
        taken = 0
        while (line := self._next()) is not None:
            pk = line.popleft()
            sent = _send(pk, now=_moment(self._now))
            taken += sent != Sent.NOT_NOW
            if sent == Sent.LATER and not gateway.answers(self._airflow):
                self._stop()
            self._put_back(pk, line, goes_on=sent == Sent.DONE)
        return taken

    def _next(self) -> Line | None:
        with self._lock:
            return self._lines.popleft() if self._lines and time.monotonic() < self._ends else None

    def _put_back(self, pk: int, line: Line, *, goes_on: bool) -> None:
        with self._lock:
            self.tried.add(pk)
            if not goes_on:
                self.tried.update(line)
            elif line:
                self._lines.append(line)

    def _stop(self) -> None:
        with self._lock:
            self._lines.clear()


def _connections_to_spare() -> int:
    """Return how many connections to the database the threads may use.

    Half of them are for the dispatch to all Airflows together. The caller holds one, other tasks the rest.
    """
    pool = settings.DATABASES["default"].get("OPTIONS", {}).get("pool")
    if not isinstance(pool, dict):
        return int(settings.AIRFLOW_POOL_CONTROL)
    return max(1, int(pool["max_size"]) // 2 // max(1, Airflow.objects.active().count()))


def _send(pk: int, *, now: datetime) -> Sent:
    command = AirflowCommand.objects.with_target().filter(pk=pk).first()
    return sending.take_and_send(command, now=now) if command else Sent.DONE
