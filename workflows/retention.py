"""How long rows are kept. The event log is cut only at its beginning, so the rest has no gaps.

Rows go in small batches, each in a short transaction, with pauses while the database is busy. So writers do not wait,
and a process that dies has lost one batch at most: the next cleanup goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, Min, Model, OuterRef, QuerySet

from workflows.models import AirflowCommand, Event, IdempotencyKey, LogHead, Run
from workflows.states import TERMINAL

BATCH = 1000
LONGEST_PAUSE = 1.0  # seconds


def clean(*, now: datetime) -> dict[str, int]:
    """Delete rows older than their retention. Return how many of each kind. A retention of 0 keeps rows for ever."""
    with_events = Exists(Event.objects.filter(run=OuterRef("pk")))
    runs = Run.objects.filter(~with_events, state__in=TERMINAL)
    runs = runs.filter(ended_at__lt=now - timedelta(days=settings.KEEP_RUNS_DAYS))
    commands = AirflowCommand.objects.filter(finished_at__lt=now - timedelta(days=settings.KEEP_COMMANDS_DAYS))
    keys = IdempotencyKey.objects.filter(created_at__lt=now - timedelta(hours=settings.KEEP_IDEMPOTENCY_KEYS_HOURS))
    return {
        "events": _cut_log(now - timedelta(days=settings.KEEP_EVENTS_DAYS)) if settings.KEEP_EVENTS_DAYS else 0,
        "runs": _delete(runs) if settings.KEEP_RUNS_DAYS else 0,
        "commands": _delete(commands),
        "idempotency_keys": _delete(keys),
    }


class Pace:
    """Makes a loop of batches give way: a batch that takes longer than the quickest so far is followed by a pause.

    The pause is as long as the delay. So the loop runs at full speed on an idle database, and half of the time at most
    on one that is much slower than that.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep):
        self._clock, self._sleep = clock, sleep
        self._quickest = float("inf")

    @contextmanager
    def batch(self) -> Iterator[None]:
        began = self._clock()
        yield
        taken = self._clock() - began
        self._quickest = min(self._quickest, taken)
        if pause := min(taken - self._quickest, LONGEST_PAUSE):
            self._sleep(pause)


def _cut_log(limit: datetime) -> int:
    """Delete the beginning of the log up to the first event that is kept."""
    kept = (
        Event.objects.published().filter(timestamp__gte=limit).order_by("position").values_list("position", flat=True)
    )
    end = kept.first() or (LogHead.objects.values_list("position", flat=True).first() or 0) + 1
    first = Event.objects.aggregate(first=Min("position"))["first"]
    cut, pace = 0, Pace()
    after = first - 1 if first else end
    while after < end - 1:
        with pace.batch():
            old = Event.objects.filter(position__gt=after, position__lt=end).order_by("position")
            last = old.values_list("position", flat=True)[BATCH - 1 : BATCH]
            upto = next(iter(last), None) or end - 1
            cut += _cut(after=after, upto=upto)
            after = upto
    return cut


def _cut(*, after: int, upto: int) -> int:
    """Delete the events with these positions, and what refers to them. Return how many events."""
    # The mark comes first: a client that resumes below it is refused, instead of missing events. In a transaction of
    # its own, because publishers change the same row.
    LogHead.objects.filter(cut_at__lt=upto).update(cut_at=upto)
    with transaction.atomic():
        for relation in Event._meta.related_objects:
            # Few events have deliveries, so Django may find out what depends on those.
            field: str = relation.field.name
            between = {f"{field}__position__gt": after, f"{field}__position__lte": upto}
            relation.related_model._default_manager.filter(**between).delete()
        with connection.cursor() as cursor:
            # The ORM would read the rows first.
            cursor.execute("DELETE FROM workflows_event WHERE position > %s AND position <= %s", [after, upto])
            return int(cursor.rowcount)


def _delete(rows: QuerySet[Any]) -> int:
    """Delete these rows and what depends on them, in batches. Return how many rows."""
    model: type[Model] = rows.model
    deleted, pace = 0, Pace()
    while page := list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH]):
        with pace.batch():
            model._default_manager.filter(pk__in=page).delete()
        deleted += len(page)
    return deleted
