"""Writes to the log, and reads what a stream must bring."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction
from django.utils import timezone

from workflows.eventlog import events, publication
from workflows.models import Event, Run


def append(run: Run, count: int, *, size: int = 200) -> None:
    """Append and publish events of about 300 bytes plus `size` to a run, in one transaction."""
    with transaction.atomic():
        stored = Run.objects.select_for_update().get(pk=run.pk)
        now, data = (
            timezone.now(),
            events.TaskStarted(state="x" * size, map_index=-1, try_number=1),
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
                data=events.as_json(data),
            )
            for seq in range(stored.event_count + 1, stored.event_count + count + 1)
        )
        stored.event_count += count
        stored.save(update_fields=["event_count"])
        transaction.on_commit(publication.publish)


def frames_after(cursor: int, runs: Sequence[Run] | None = None) -> list[str]:
    """Return the frames of the log after a cursor, of these runs or of all."""
    found = Event.objects.filter(position__gt=cursor).order_by("position")
    if runs is not None:
        found = found.filter(run__in=runs)
    return [publication.as_published(event).frame for event in found]


def ids_after(cursor: int, runs: Sequence[Run] | None = None) -> list[int]:
    """Return the cursors of the log after a cursor, of these runs or of all."""
    found = Event.objects.filter(position__gt=cursor).order_by("position")
    if runs is not None:
        found = found.filter(run__in=runs)
    return [position for position in found.values_list("position", flat=True) if position is not None]
