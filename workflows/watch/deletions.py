"""Find the ended runs that somebody has deleted in Airflow. No feed shows a deletion, so the sweep looks for them.

Each sweep compares one page of the recent runs, and the next sweep goes on behind it. So a sweep costs the same,
however many runs there are.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, IntegerField, OuterRef, Q
from django.db.models.fields.json import KT
from django.db.models.functions import Cast

from workflows.airflow import AirflowClient
from workflows.airflow.errors import AirflowError, AirflowUnavailableError
from workflows.eventlog import events
from workflows.lifecycle import deletions
from workflows.models import Airflow, Event, Run, RunQuerySet
from workflows.states import TERMINAL

logger = logging.getLogger(__name__)

# How many runs a sweep compares, and how many it reads by their id because Airflow's list did not show them.
PAGE = 200
READ_AT_ONCE = 20
# The start that we know of a run may come from a push, before Airflow has stored it.
AROUND = timedelta(seconds=5)


def look_for_deletions(client: AirflowClient, *, now: datetime) -> None:
    """Compare the next page of ended runs with Airflow, and record those that Airflow no longer has."""
    page = list(_next_page(Airflow.named(client.name), now=now))
    last = page[-1] if len(page) == PAGE else None
    listed = _listed(client, page)
    missing = [run for run in page if (run.dag_id, run.dag_run_id) not in listed]
    for run in missing[:READ_AT_ONCE]:
        _read(client, run, now=now)
    if len(missing) > READ_AT_ONCE:
        last = missing[READ_AT_ONCE - 1]
    Airflow.objects.filter(name=client.name).update(compared_run=last.pk if last else None)


def _next_page(airflow: Airflow, *, now: datetime) -> RunQuerySet:
    """Return ended runs that Airflow should still have, newest first, behind the one that was compared last."""
    attempt = Cast(KT("data__attempt"), IntegerField())
    of_run = Event.objects.filter(run=OuterRef("pk"), type=events.WorkflowExternalChange.type, data__change="deleted")
    recorded = of_run.annotate(in_attempt=attempt).filter(in_attempt=OuterRef("attempt"))
    limit = now - timedelta(days=settings.DELETIONS_DAYS)
    known = Run.objects.filter(airflow__name=airflow.name, state__in=TERMINAL)
    ended = known.filter(queued_at__isnull=False, created_at__gte=limit)
    after = airflow.compared_run
    last = Run.objects.filter(pk=after).first() if after else None
    if last:
        behind = Q(created_at__lt=last.created_at) | Q(created_at=last.created_at, pk__lt=last.pk)
        ended = ended.filter(behind)
    return ended.exclude(Exists(recorded)).order_by("-created_at", "-id")[:PAGE]


def _listed(client: AirflowClient, page: Sequence[Run]) -> set[tuple[str, str]]:
    """Return the runs that Airflow lists where those of the page began: one or two requests for all."""
    starts = [run.started_at for run in page if run.started_at]
    if not starts:
        return set()
    dag_ids = {run.dag_id for run in page}
    first, last = min(starts) - AROUND, max(starts) + AROUND
    seen = client.runs.between(first, last, by="start", dag_ids=dag_ids, at_most=2 * PAGE)
    return {(run.dag_id, run.dag_run_id) for run in seen}


def _read(client: AirflowClient, run: Run, *, now: datetime) -> None:
    """Read a run that the list did not show. It may have been cleared, or our account may no longer see it."""
    try:
        deletions.is_gone(client, run, now=now)
    except AirflowUnavailableError:
        raise
    except AirflowError as exc:
        logger.warning("run not compared", extra={"run_id": str(run.pk), "error": str(exc)})
