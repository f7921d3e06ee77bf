"""Watches Airflow at a constant cost: one look per tick at what has changed, and a slower sweep for what a look
can not see. The number of requests does not grow with the number of runs that are active.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from workflows import adoption, events, observe, outbox, receipt, upstream
from workflows.airflow import AirflowClient, types
from workflows.airflow.errors import AirflowError, AirflowNotFoundError
from workflows.models import AirflowCommand, AirflowState, CommandKind, Event, Run, RunQuerySet, Workflow
from workflows.observe import Sight
from workflows.states import OPEN, RunState

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=60)
SWEPT_AT_ONCE = 20
NOBODY_TICKS = timedelta(seconds=6)  # thrice the interval that the schedule begins with

Key = tuple[str, str]


def tick(*, now: datetime) -> bool:
    """One look at Airflow; False when another worker is looking or Airflow does not answer.

    What has been read is applied before the cursor moves on, so a crash repeats a look and loses nothing.
    """
    outbox.publish()
    AirflowState.current()
    AirflowState.objects.update(ticked_at=now)
    if not _lease(now):
        return False
    try:
        with upstream.watched() as client:
            _look(client, at=now)
            _sweep_if_due(client, now=now)
            _collect_receipts(client, receipt.awaited(now=now))
            upstream.note_up(version=client.version(), now=timezone.now())
    except AirflowError as exc:
        logger.warning("look at Airflow failed", extra={"error": str(exc)})
        return False
    finally:
        # Not that of another worker, to whom a lease that ran out has passed.
        AirflowState.objects.filter(leased_until=now + LEASE).update(leased_until=None)
    return True


def tick_if_nobody_does() -> None:
    """Look at Airflow from a command whose user waits, when no worker seems to be running."""
    now = timezone.now()
    ticked_at = AirflowState.current().ticked_at
    if ticked_at is None or now - ticked_at > NOBODY_TICKS:
        tick(now=now)


def _lease(now: datetime) -> bool:
    free = Q(leased_until__isnull=True) | Q(leased_until__lt=now)
    return AirflowState.objects.filter(free).update(leased_until=now + LEASE) == 1


def _look(client: AirflowClient, *, at: datetime) -> None:
    """Read the change feeds of runs and task instances of our DAGs since the last look."""
    dag_ids = sorted(set(Workflow.objects.values_list("dag__dag_id", flat=True)))
    if dag_ids:
        # The overlap covers a clock that differs from Airflow's and rows that commit late.
        last = AirflowState.current().looked_at or at
        since = last - timedelta(seconds=settings.RECONCILE_OVERLAP)
        runs = client.runs.changed_since(since, dag_ids=dag_ids)
        tasks = client.tasks.changed_since(since, dag_ids=dag_ids)
        apply(client, runs=runs, tasks=tasks, at=at)
    else:
        client.health()  # there is nothing to look at yet, but whether Airflow answers matters all the same
    AirflowState.objects.update(looked_at=at)


def apply(
    client: AirflowClient,
    *,
    runs: Iterable[types.DagRun],
    tasks: Iterable[types.TaskInstance],
    at: datetime,
    pushed: bool = False,
) -> None:
    """Observe each of our runs among what was read or, `pushed`, told by Airflow itself.

    A run that somebody started in Airflow becomes ours when its DAG has a workflow.

    Of a run that has ended, all tasks are read again, after the run: only then is it certain that each of them
    is seen at its end, before the end of the run is told. What was pushed is committed before that, so that its
    events leave at once: also the end of a run, where the end of each of its tasks has been pushed; the next look
    completes what pushes leave out.
    """
    seen_runs = {(run.dag_id, run.dag_run_id): run for run in runs}
    seen_tasks: dict[Key, list[types.TaskInstance]] = defaultdict(list)
    for task in tasks:
        seen_tasks[task.dag_id, task.dag_run_id].append(task)
    ours = _ours(seen_runs.keys() | seen_tasks.keys())
    ours |= adoption.adopt([run for key, run in seen_runs.items() if key not in ours], now=at)
    ended = {key for key in ours if key in seen_runs and seen_runs[key].state in observe.AIRFLOW_TERMINAL}
    ended = {key for key in ended if _may_change(ours[key], seen_runs[key])}
    unread = set(ended)
    for key, run in ours.items():
        sight = Sight(at=at, run=seen_runs.get(key), tasks=seen_tasks[key], pushed=pushed)
        if key in ended:
            if pushed and observe.observe(run.pk, sight):
                unread.discard(key)
        elif observe.may_be_news(run, sight):
            observe.observe(run.pk, sight)
    for key, tasks_of_run in _all_tasks(client, unread).items():
        sight = Sight(at=at, run=seen_runs[key], tasks=tasks_of_run, all_tasks=True, pushed=pushed)
        observe.observe(ours[key].pk, sight)


def _may_change(run: Run, seen: types.DagRun) -> bool:
    """Whether the end that was seen is news: the overlap shows each end several times."""
    if run.state in OPEN or observe.begins_again(run, seen):
        return True
    return run.state not in {RunState.STOPPED, observe.AIRFLOW_TERMINAL[seen.state]}


def _ours(keys: Collection[Key]) -> dict[Key, Run]:
    runs = Run.objects.filter(dag_run_id__in={dag_run_id for _, dag_run_id in keys}).prefetch_related("tasks")
    return {(run.dag_id, run.dag_run_id): run for run in runs if (run.dag_id, run.dag_run_id) in keys}


def _all_tasks(client: AirflowClient, keys: Collection[Key]) -> dict[Key, list[types.TaskInstance]]:
    if not keys:
        return {}
    wanted: dict[str, list[str]] = defaultdict(list)
    for dag_id, dag_run_id in keys:
        wanted[dag_id].append(dag_run_id)
    found: dict[Key, list[types.TaskInstance]] = {key: [] for key in keys}
    for task in client.tasks.list(dag_run_ids=wanted):
        if (task.dag_id, task.dag_run_id) in found:
            found[task.dag_id, task.dag_run_id].append(task)
    return found


def _sweep_if_due(client: AirflowClient, *, now: datetime) -> None:
    state = AirflowState.current()
    if state.swept_at and now - state.swept_at < timedelta(seconds=settings.SWEEP_INTERVAL):
        return
    sweep(client, now=timezone.now())
    AirflowState.objects.update(swept_at=now)


def sweep(client: AirflowClient, *, now: datetime) -> None:
    """Compare every open run with Airflow: finds what a look has missed, and runs deleted there."""
    on_the_way = AirflowCommand.objects.filter(kind=CommandKind.TRIGGER, finished_at__isnull=True, run__isnull=False)
    handed_over = Run.objects.filter(state__in=OPEN - {RunState.PENDING}).exclude(pk__in=on_the_way.values("run"))
    ours = {(run.dag_id, run.dag_run_id): run for run in handed_over}
    if ours:
        active = client.runs.list(dag_ids=sorted({dag_id for dag_id, _ in ours}), states=("queued", "running"))
        seen = {(run.dag_id, run.dag_run_id): run for run in active}
        gone = [run for key, run in ours.items() if key not in seen][:SWEPT_AT_ONCE]
        ended = [found for run in gone if (found := _get(client, run, now=now))]
        tasks = _all_tasks(client, ours.keys() & seen.keys())
        known = [run for key, run in seen.items() if key in ours]
        apply(client, runs=[*known, *ended], tasks=[t for found in tasks.values() for t in found], at=now)
    _collect_receipts(client, receipt.overdue(now=now))
    _report_incomplete_stops(now=now)


def _collect_receipts(client: AirflowClient, runs: RunQuerySet) -> None:
    for run, receipts in receipt.collect(client, runs, now=timezone.now()):
        if receipts:
            observe.note_receipts(run.pk, receipts)


def _get(client: AirflowClient, run: Run, *, now: datetime) -> types.DagRun | None:
    try:
        return client.runs.get(run.dag_id, run.dag_run_id)
    except AirflowNotFoundError:
        observe.note_deleted(run.pk, at=now)
        return None


def _report_incomplete_stops(*, now: datetime) -> None:
    """Name what still runs when a stop has passed its deadline; once per stop."""
    limit = now - timedelta(seconds=settings.STOP_DEADLINE)
    late = Run.objects.filter(state=RunState.STOPPING, stop_requested_at__lt=limit)
    reported = Event.objects.filter(
        run=OuterRef("pk"), type=events.WorkflowStopIncomplete.type, timestamp__gte=OuterRef("stop_requested_at")
    )
    for run in late.exclude(Exists(reported)):
        observe.note_stop_incomplete(run.pk, at=now)
