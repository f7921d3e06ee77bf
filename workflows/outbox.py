"""Publication: gives committed events their position, in commit order, and tells the web processes.

Position is given here and not by the insert, because a database hands out ids before commit: a reader of
`id > last` misses what commits late. One publisher at a time holds the head's row lock until its positions
are committed, so nothing ever appears behind a reader's cursor, and there are no gaps.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Protocol
from uuid import UUID

import redis
from django.conf import settings
from django.db import connection, transaction

from svops.times import iso
from workflows.models import Event, LogHead

logger = logging.getLogger(__name__)

CHANNEL = "svops:events"
ACCESS_CHANNEL = "svops:access"
BATCH = 500

_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Published:
    """An event as it travels: the encoded envelope, and what routing needs to know of it."""

    position: int
    type: str
    workflow_id: int | None
    run_id: str | None
    user_id: int | None
    frame: str


class Line(Protocol):
    """What an envelope is made of: an `Event`, or its columns alone, which are read in half of the time."""

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
    def timestamp(self) -> datetime: ...
    @property
    def data(self) -> Any: ...


COLUMNS = ("id", "position", "seq", "type", "workflow_id", "run_id", "task_id", "user_id", "timestamp", "data")


def envelope(event: Line) -> dict[str, Any]:
    """The one shape of an event on every transport."""
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
    """Encode an event that has its position."""
    if event.position is None:
        raise ValueError("only a published event has a frame")
    return Published(
        position=event.position,
        type=event.type,
        workflow_id=event.workflow_id,
        run_id=str(event.run_id) if event.run_id else None,
        user_id=event.user_id,
        frame=_encode(envelope(event)),
    )


def read_after(position: int, *, limit: int = BATCH) -> list[Published]:
    """The log after `position`, in order."""
    page = Event.objects.filter(position__gt=position).order_by("position").values_list(*COLUMNS, named=True)[:limit]
    return [as_published(event) for event in page]


def head() -> int:
    """The last position given."""
    return LogHead.objects.values_list("position", flat=True).filter(pk=1).first() or 0


def why_not_from(cursor: int) -> str:
    """Why the log can not be read on from `cursor` without a gap; empty when it can."""
    ends = LogHead.objects.values_list("cut_at", "position").filter(pk=1).first() or (0, 0)
    if cursor > ends[1]:
        return "the cursor is beyond the end of the log"
    if 0 < cursor < ends[0]:
        return "events after the cursor are no longer kept"
    return ""


def publish() -> int:
    """Publish whatever is committed and unpublished; tell how many events that was. Safe to call at any time."""
    total = 0
    while Event.objects.filter(position__isnull=True).exists():
        events = _give_positions()
        total += len(events)
        _wake(as_published(event) for event in events)
    return total


@transaction.atomic
def _give_positions() -> list[Line]:
    head, _ = LogHead.objects.select_for_update().get_or_create(pk=1)
    waiting = Event.objects.filter(position__isnull=True).order_by("id").values_list(*COLUMNS, named=True)[:BATCH]
    events = [line._replace(position=position) for position, line in enumerate(waiting, start=head.position + 1)]
    # bulk_update() would write one CASE with a branch for each row: several times as slow.
    with connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE workflows_event SET position = %s WHERE id = %s", [(event.position, event.id) for event in events]
        )
    head.position += len(events)
    head.save(update_fields=["position"])
    return events


@cache
def _redis() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=2)


def _wake(events: Iterable[Published]) -> None:
    """Tell every web process; a hint only: who misses it finds the gap and reads the table."""
    _send(
        CHANNEL,
        json.dumps([[e.position, e.type, e.workflow_id, e.run_id, e.user_id, e.frame] for e in events]),
    )


def wake_access() -> None:
    """Tell every web process that rights on a workflow have changed."""
    _send(ACCESS_CHANNEL, "changed")


def _send(channel: str, message: str) -> None:
    try:
        _redis().publish(channel, message)
    except redis.RedisError as exc:
        logger.warning("no wake-up: Redis does not answer", extra={"error": type(exc).__name__})


def parse_wake(message: bytes) -> list[Published]:
    """Read what `_wake` wrote."""
    return [Published(*fields) for fields in json.loads(message)]
