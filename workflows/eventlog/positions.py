"""Assigns positions to committed events, one publisher at a time, a group of events in one statement.

The statements are SQL by hand: each event passes here, and the ORM would take longer to write them than the database
takes to execute them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from django.db import connection, transaction

from workflows.models import Event, LogHead

BATCH = 500
# The advisory lock that a publisher holds until its positions are committed. The number has no meaning.
LOCK = 0x53564F5073


class Line(Protocol):
    """The fields of an envelope: an `Event`, or only its columns, which are read in half of the time."""

    @property
    def position(self) -> int | None: ...
    @property
    def seq(self) -> int | None: ...
    @property
    def type(self) -> str: ...
    @property
    def workflow_id(self) -> int | None: ...
    @property
    def run_id(self) -> UUID | None: ...
    @property
    def task_id(self) -> str: ...
    @property
    def user_id(self) -> int | None: ...
    @property
    def dag_id(self) -> int | None: ...
    @property
    def timestamp(self) -> datetime: ...
    @property
    def data(self) -> Any: ...


class Columns(NamedTuple):
    """The columns of an event that has a position."""

    position: int
    seq: int | None
    type: str
    workflow_id: int | None
    run_id: UUID | None
    task_id: str
    user_id: int | None
    dag_id: int | None
    timestamp: datetime
    data: Any


COLUMNS = Columns._fields
_PUBLISHED = ", ".join(f"published.{name}" for name in COLUMNS)

# In one statement everything is read as it was when the statement began. So it may get the lock and still not see the
# positions that the holder before it has committed. The head tells: it has then moved on from `seen`, and nothing is
# written.
_POSTGRESQL = f"""
WITH lock AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock({LOCK}) AS is_ours
), seen AS MATERIALIZED (
    SELECT position FROM workflows_loghead WHERE id = 1
), waiting AS MATERIALIZED (
    SELECT id, row_number() OVER (ORDER BY id) AS place FROM workflows_event
    WHERE position IS NULL AND (SELECT is_ours FROM lock) ORDER BY id LIMIT {BATCH}
), head AS (
    UPDATE workflows_loghead SET position = seen.position + (SELECT count(*) FROM waiting) FROM seen
    WHERE workflows_loghead.position = seen.position AND EXISTS (SELECT FROM waiting) RETURNING seen.position
), published AS (
    UPDATE workflows_event SET position = head.position + waiting.place FROM waiting, head
    WHERE workflows_event.id = waiting.id RETURNING workflows_event.*
)
SELECT lock.is_ours AND EXISTS (SELECT FROM waiting), {_PUBLISHED} FROM lock LEFT JOIN published ON true
ORDER BY published.position
"""  # noqa: S608 - numbers and names of columns
_SQLITE = f"""
UPDATE workflows_event SET position = waiting.position FROM (
    SELECT id, row_number() OVER (ORDER BY id) + %s AS position FROM workflows_event
    WHERE position IS NULL ORDER BY id LIMIT {BATCH}
) AS waiting WHERE workflows_event.id = waiting.id RETURNING *
"""  # noqa: S608 - a number
_WAITING = "SELECT EXISTS (SELECT 1 FROM workflows_event WHERE position IS NULL)"


def assign() -> Sequence[Line]:
    """Assign the next positions to up to `BATCH` events that wait for one. Return the events in their new order.

    It returns none if none waits, or if another publisher holds the lock. That publisher asks `are_waiting` after its
    group is committed, and so publishes what was committed meanwhile.
    """
    return _on_postgresql() if connection.vendor == "postgresql" else _on_sqlite()


def are_waiting() -> bool:
    """Return whether committed events have no position."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING)
        return bool(cursor.fetchone()[0])


def _on_postgresql() -> list[Columns]:
    while True:
        with connection.cursor() as cursor:
            cursor.execute(_POSTGRESQL)
            rows = cursor.fetchall()
        if rows[0][1] is not None:
            return [Columns._make((*row[1:-1], json.loads(row[-1]))) for row in rows]
        if not rows[0][0]:
            return []
        # Events wait. Either the head has moved since the statement began, or the log has no head yet.
        LogHead.objects.get_or_create(pk=1)


def _on_sqlite() -> list[Event]:
    # A transaction begins with the lock for writing, and there may be nothing to write.
    if not are_waiting():
        return []
    with transaction.atomic():
        head, _ = LogHead.objects.get_or_create(pk=1)
        events = list(Event.objects.raw(_SQLITE, [head.position]))
        LogHead.objects.update(position=head.position + len(events))
    return sorted(events, key=lambda event: event.position or 0)
