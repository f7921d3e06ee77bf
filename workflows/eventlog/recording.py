"""Writes the rows of a batch of events: numbers them in their runs, inserts them, calls the sinks.

What an event may say is `workflows.eventlog.events`. `events.record` and `events.record_all` are the callers. The
statements are SQL by hand, for the reason that `positions` gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.utils.module_loading import import_string

from workflows.eventlog import publication
from workflows.models import Event, Run

BATCH = 500  # rows of one INSERT

# Called with the events of one batch, in their order, in the transaction that records them.
Sink = Callable[[Sequence[Event]], None]


def append(events: Sequence[Event]) -> None:
    """Append unsaved events to the log, in this order, and give those of a run their `seq` if they have none.

    It must share the transaction of the change that the events describe. Publication follows the commit. It costs two
    queries for one run, three for several, and those of the sinks. Raises `Run.DoesNotExist` for a run that is gone.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("recording must share the transaction of the change")
    if not events:
        return
    _number([event for event in events if event.run is not None and event.seq is None])
    for first in range(0, len(events), BATCH):
        _insert(events[first : first + BATCH])
    for sink in _sinks(tuple(settings.EVENT_SINKS)):
        sink(events)
    publish_after_commit()


def publish_after_commit() -> None:
    """Publish once after the commit, however many batches the transaction records."""
    scheduled = transaction.get_connection().run_on_commit
    # The entry of a savepoint that is rolled back goes with the events recorded in it, so one entry is enough.
    if not any(publication.publish in entry for entry in scheduled):
        # Robust: the events are committed by then, and the next publication includes them.
        transaction.on_commit(publication.publish, robust=True)


@cache
def _sinks(names: tuple[str, ...]) -> tuple[Sink, ...]:
    return tuple(import_string(name) for name in names)


def _number(events: Iterable[Event]) -> None:
    """Assign `seq` to events of runs, and the new count to their runs."""
    runs = [cast("Run", event.run) for event in events]
    if not runs:
        return
    counts = Counter(run.pk for run in runs)
    ends = _reserve(counts)
    next_seq = {pk: ends[pk] - count + 1 for pk, count in counts.items()}
    for event, run in zip(events, runs, strict=True):
        event.seq = next_seq[run.pk]
        next_seq[run.pk] += 1
        run.event_count = ends[run.pk]


def _reserve(counts: dict[UUID, int]) -> dict[UUID, int]:
    """Add so many events to each run. Return the new counts.

    The UPDATE locks the runs until commit, so `seq` has no gaps and no duplicates. A database sequence could not
    promise that: it gives out ids before the commit.
    """
    if len(counts) > 1:
        # An UPDATE locks rows in no order of ours, and two batches could wait for each other.
        list(Run.objects.select_for_update(no_key=True).filter(pk__in=counts).order_by("pk").values_list("pk"))
    pk_of = Run._meta.pk
    values: list[Any] = []
    for pk, count in counts.items():
        values += [pk_of.get_db_prep_value(pk, connection), count]
    rows = ", ".join(["(%s, %s)"] * len(counts))
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE workflows_run SET event_count = event_count + added.column2"  # noqa: S608 - placeholders only
            f" FROM (VALUES {rows}) AS added WHERE workflows_run.id = added.column1"
            " RETURNING workflows_run.id, workflows_run.event_count",
            values,
        )
        ends = {pk_of.to_python(pk): count for pk, count in cursor.fetchall()}
    if len(ends) < len(counts):
        raise Run.DoesNotExist("a run of an event no longer exists")
    return ends


_FIELDS = [field for field in Event._meta.concrete_fields if not field.primary_key]
_INSERT = f"INSERT INTO workflows_event ({', '.join(str(field.column) for field in _FIELDS)}) VALUES "  # noqa: S608
_ROW = f"({', '.join(['%s'] * len(_FIELDS))})"


def _insert(events: Sequence[Event]) -> None:
    """Insert the rows in one statement, and give the events their ids."""
    values = [
        field.get_db_prep_save(getattr(event, field.attname), connection) for event in events for field in _FIELDS
    ]
    with connection.cursor() as cursor:
        cursor.execute(f"{_INSERT}{', '.join([_ROW] * len(events))} RETURNING id", values)
        ids = cursor.fetchall()
    for event, (pk,) in zip(events, ids, strict=True):
        event.pk = pk
        event._state.adding, event._state.db = False, connection.alias
