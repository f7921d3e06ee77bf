"""What is kept how long. The log is cut from its beginning only, so what is left has no gaps."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef

from workflows.models import AirflowCommand, Event, IdempotencyKey, LogHead, Run
from workflows.states import TERMINAL

BATCH = 1000


def clean(*, now: datetime) -> dict[str, int]:
    """Delete what is older than its retention; how many rows of each kind went. A retention of 0 keeps for ever."""
    return {
        "events": _cut_log(now - timedelta(days=settings.KEEP_EVENTS_DAYS)) if settings.KEEP_EVENTS_DAYS else 0,
        "runs": _delete_runs(now - timedelta(days=settings.KEEP_RUNS_DAYS)) if settings.KEEP_RUNS_DAYS else 0,
        "commands": _delete_commands(now - timedelta(days=settings.KEEP_COMMANDS_DAYS)),
        "idempotency_keys": _delete_keys(now - timedelta(hours=settings.KEEP_IDEMPOTENCY_KEYS_HOURS)),
    }


def _cut_log(limit: datetime) -> int:
    kept = Event.objects.published().filter(timestamp__gte=limit).order_by("position").first()
    end = kept.position if kept else (LogHead.objects.values_list("position", flat=True).first() or 0) + 1
    cut = 0
    while page := list(
        Event.objects.filter(position__lt=end).order_by("position").values_list("pk", "position")[:BATCH]
    ):
        with transaction.atomic():
            # First the mark, then the rows: who resumes below the mark is refused, not left with a gap.
            LogHead.objects.update(cut_at=page[-1][1])
            Event.objects.filter(pk__in=[pk for pk, _ in page]).delete()
        cut += len(page)
    return cut


def _delete_runs(limit: datetime) -> int:
    with_events = Exists(Event.objects.filter(run=OuterRef("pk")))
    old = Run.objects.filter(~with_events, state__in=TERMINAL, ended_at__lt=limit)
    deleted = 0
    while page := list(old.values_list("pk", flat=True)[:BATCH]):
        Run.objects.filter(pk__in=page).delete()
        deleted += len(page)
    return deleted


def _delete_commands(limit: datetime) -> int:
    return AirflowCommand.objects.filter(finished_at__lt=limit).delete()[0]


def _delete_keys(limit: datetime) -> int:
    return IdempotencyKey.objects.filter(created_at__lt=limit).delete()[0]
