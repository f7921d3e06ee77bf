"""Publication: assigns positions to committed events, in commit order, and wakes the web processes.

The insert does not assign the position, because a database hands out ids before commit: a reader of `id > last` misses
events that commit late. One publisher at a time holds a lock until its positions are committed. So no event ever
appears behind a reader's cursor, and there are no gaps.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.utils import timezone

from rest.times import iso
from workflows.eventlog import epochs, layer, positions
from workflows.eventlog.positions import COLUMNS, Line
from workflows.models import Event, LogHead

# Groups of the channel layer, and the type of the messages that go to each.
LOG_GROUP, EVENTS = "svops.log", "events"
RIGHTS_GROUP, RIGHTS_CHANGED = "svops.rights", "rights.changed"
BATCH = positions.BATCH

_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Published:
    """An event on its way to the clients: the encoded envelope, and the fields that filters need."""

    position: int
    type: str
    workflow_id: int | None
    run_id: str | None
    user_id: int | None
    frame: str
    dag_id: int | None = None


def envelope(event: Line) -> dict[str, Any]:
    """Return the event in the shape that all transports share."""
    return {
        "id": event.position,
        "seq": event.seq,
        "type": event.type,
        "workflow_id": event.workflow_id,
        "run_id": str(event.run_id) if event.run_id else None,
        "task_id": event.task_id or None,
        "user_id": event.user_id,
        "timestamp": iso(event.timestamp),
        "data": event.data,
    }


def as_published(event: Line) -> Published:
    """Encode an event that has a position. Raises `ValueError` if it has none."""
    if event.position is None:
        raise ValueError("only a published event has a frame")
    return Published(
        position=event.position,
        type=event.type,
        workflow_id=event.workflow_id,
        run_id=str(event.run_id) if event.run_id else None,
        user_id=event.user_id,
        frame=_encode(envelope(event)),
        dag_id=event.dag_id,
    )


def read_after(position: int, *, limit: int = BATCH, run_ids: Collection[UUID] | None = None) -> list[Published]:
    """Return the log after `position`, in order: all of it, or that of these runs."""
    log = Event.objects.filter(position__gt=position)
    if run_ids is not None:
        log = log.filter(run__in=run_ids)
    return [as_published(event) for event in log.order_by("position").values_list(*COLUMNS, named=True)[:limit]]


def head() -> int:
    """Return the last position."""
    return LogHead.objects.values_list("position", flat=True).filter(pk=1).first() or 0


def why_not_from(cursor: int) -> str:
    """Return why the log cannot be read from `cursor` without a gap, or an empty string if it can."""
    log = LogHead.objects.filter(pk=1).first() or LogHead()
    if cursor > log.position:
        return "the cursor is beyond the end of the log"
    if log.has_lost(cursor):
        return "the cursor is of a log that another one has replaced, such as that of a back-up"
    if 0 < cursor < log.cut_at:
        return "events after the cursor are no longer kept"
    return ""


def found_again(position: int) -> int:
    """Return the position itself, or where the log goes on if it lost what was there."""
    log = LogHead.objects.filter(pk=1).first() or LogHead()
    return log.begins_at if log.has_lost(position) else position


def publish() -> int:
    """Publish the committed events that have no position. Return how many this call has published.

    Safe to call at any time, on many processes at once: one of them publishes for all, and the others return at once.
    """
    epochs.notice_once(now=timezone.now())
    total = 0
    are_waiting = True
    while are_waiting and (group := positions.assign()):
        total += len(group)
        try:
            # Publishers that found the lock held rely on this. It precedes the wake-up, which may wait for Redis.
            are_waiting = positions.are_waiting()
        finally:
            _send_wake_up(as_published(event) for event in group)
    return total


def _send_wake_up(events: Iterable[Published]) -> None:
    """Send new events to every web process. A hint only: a process that misses it finds the gap and reads the table."""
    packed = [[e.position, e.type, e.workflow_id, e.run_id, e.user_id, e.frame, e.dag_id] for e in events]
    layer.send(LOG_GROUP, {"type": EVENTS, "events": packed})


def send_rights_changed() -> None:
    """Notify every web process that rights on a workflow or a DAG have changed."""
    layer.send(RIGHTS_GROUP, {"type": RIGHTS_CHANGED})


def events_of_wake_up(message: Mapping[str, Any]) -> list[Published]:
    """Return the events in a message of the type `EVENTS`."""
    return [Published(*fields) for fields in message["events"]]
