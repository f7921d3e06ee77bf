"""Writing to the log, and reading off what a stream has to bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from django.db import transaction
from django.utils import timezone

from workflows import events, outbox
from workflows.models import Event, Run


def append(run: Run, count: int, *, size: int = 200) -> None:
    """Append events of about 300 bytes and `size` to a run, in one transaction, and have them published."""
    with transaction.atomic():
        stored = Run.objects.select_for_update().get(pk=run.pk)
        now, data = (
            timezone.now(),
            events.TaskStarted(state="running", map_index=-1, try_number=1, started_at="x" * size),
        )
        Event.objects.bulk_create(
            Event(
                run=stored,
                seq=seq,
                workflow_id=stored.workflow_id,
                user_id=stored.user_id,
                type=events.TaskStarted.type,
                task_id=f"step_{seq}",
                timestamp=now,
                data=asdict(data),
            )
            for seq in range(stored.event_count + 1, stored.event_count + count + 1)
        )
        stored.event_count += count
        stored.save(update_fields=["event_count"])
        transaction.on_commit(outbox.publish)


def frames_after(cursor: int, runs: Sequence[Run] | None = None) -> list[str]:
    """The log after a cursor, of these runs or of all, as it has to be on the wire."""
    found = Event.objects.filter(position__gt=cursor).order_by("position")
    if runs is not None:
        found = found.filter(run__in=runs)
    return [outbox.as_published(event).frame for event in found]


def ids_after(cursor: int, runs: Sequence[Run] | None = None) -> list[int]:
    """The cursors of the same."""
    found = Event.objects.filter(position__gt=cursor).order_by("position")
    if runs is not None:
        found = found.filter(run__in=runs)
    return [position for position in found.values_list("position", flat=True) if position is not None]
