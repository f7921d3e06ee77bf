"""Compare runs with Airflow that the polls do not prove: what they have missed, and what was deleted there.

Each sweep compares a share of the open runs, and the next sweep goes on behind it. So a sweep costs the same, however
many runs are open. With few runs, each sweep compares all of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from django.conf import settings
from django.db.models import Count, Q

from workflows import rights
from workflows.airflow import AirflowClient, types
from workflows.airflow.errors import AirflowForbiddenError, AirflowNotFoundError
from workflows.lifecycle import exits
from workflows.models import Airflow, AirflowCommand, CommandKind, Run, RunQuerySet, TaskInstance
from workflows.states import OPEN, RunState
from workflows.watch import questions, stops
from workflows.watch.apply import all_tasks, apply
from workflows.watch.deletions import look_for_deletions
from workflows.watch.observe import record_deleted

# A share has at most so many runs, with so many tasks; one run may have more tasks.
RUNS, TASKS = 500, 2000
# How many runs are read by their id because Airflow's list did not show them.
READ_AT_ONCE = 20
# Our time of a run may be from before Airflow has stored it.
AROUND = timedelta(seconds=5)


def is_due(airflow: str, now: datetime) -> bool:
    swept_at = Airflow.named(airflow).swept_at
    return swept_at is None or now - swept_at >= timedelta(seconds=settings.SWEEP_INTERVAL)


def sweep(client: AirflowClient, *, now: datetime) -> None:
    """Compare the next share of the open runs, and some ended ones, with Airflow."""
    waiting = AirflowCommand.objects.pending().filter(kind=CommandKind.TRIGGER)
    dispatched = Run.objects.filter(airflow__name=client.name, state__in=OPEN - {RunState.PENDING}).exclude(
        pk__in=waiting.values("run")
    )
    begun = Q(started_at__isnull=False)
    for share in (
        _Share(client.name, dispatched.filter(begun), time="started_at", cursor="swept_run"),
        _Share(
            client.name, dispatched.filter(~begun, queued_at__isnull=False), time="queued_at", cursor="swept_queued_run"
        ),
    ):
        _compare(client, share, now=now)
    questions.ask_again(client, now=now)
    stops.look_for_proofs(exits.overdue(client.name, now=now))
    stops.report_incomplete_stops(client.name, now=now)
    look_for_deletions(client, now=now)


@dataclass(frozen=True)
class _Share:
    """Runs in the order of one of their times, and the name of the cursor behind which the next share begins."""

    airflow: str
    runs: RunQuerySet
    time: Literal["started_at", "queued_at"]
    cursor: Literal["swept_run", "swept_queued_run"]

    def next(self) -> tuple[list[Run], bool]:
        """Return the runs to compare, and whether there are more behind them."""
        after: uuid.UUID | None = getattr(Airflow.named(self.airflow), self.cursor)
        last = Run.objects.filter(pk=after).first() if after else None
        at = last and getattr(last, self.time)
        behind = Q(**{f"{self.time}__gt": at}) | Q(**{self.time: at}, pk__gt=after) if at else Q()
        page = list(self.runs.filter(behind).order_by(self.time, "pk")[: RUNS + 1])
        share = _with_few_tasks(page[:RUNS])
        return share, len(share) < len(page)

    def go_on_behind(self, run: Run | None) -> None:
        Airflow.objects.filter(name=self.airflow).update(**{self.cursor: run.pk if run else None})


def _with_few_tasks(runs: Sequence[Run]) -> list[Run]:
    counts = TaskInstance.objects.filter(run__in=runs).order_by().values("run").annotate(tasks=Count("pk"))
    tasks_of = {row["run"]: row["tasks"] for row in counts}
    chosen: list[Run] = []
    total = 0
    for run in runs:
        total += tasks_of.get(run.pk, 0)
        if chosen and total > TASKS:
            break
        chosen.append(run)
    return chosen


def _compare(client: AirflowClient, share: _Share, *, now: datetime) -> None:
    runs, has_more = share.next()
    if not runs:
        share.go_on_behind(None)
        return
    listed = _listed(client, share, runs)
    seen = {(run.dag_id, run.dag_run_id): run for run in listed}
    ours = {(run.dag_id, run.dag_run_id): run for run in runs}
    missing = [run for key, run in ours.items() if key not in seen]
    found = [read for run in missing[:READ_AT_ONCE] if (read := _get(client, run, now=now))]
    known = [run for key, run in seen.items() if key in ours]
    tasks = all_tasks(client, {(run.dag_id, run.dag_run_id) for run in known if run.start_date})
    apply(client, runs=[*known, *found], tasks=[task for of_run in tasks.values() for task in of_run], at=now)
    if len(missing) > READ_AT_ONCE:
        share.go_on_behind(missing[READ_AT_ONCE - 1])
    else:
        share.go_on_behind(runs[-1] if has_more else None)


def _listed(client: AirflowClient, share: _Share, runs: Sequence[Run]) -> list[types.DagRun]:
    """Return the open runs that Airflow lists where those of the share began, or were queued."""
    times: list[datetime] = [getattr(run, share.time) for run in runs]
    return client.runs.between(
        min(times) - AROUND,
        max(times) + AROUND,
        by="start" if share.time == "started_at" else "due",
        dag_ids={run.dag_id for run in runs},
        states=("queued", "running"),
        at_most=2 * RUNS,
    )


def _get(client: AirflowClient, run: Run, *, now: datetime) -> types.DagRun | None:
    try:
        return client.runs.get(run.dag_id, run.dag_run_id)
    except AirflowNotFoundError:
        record_deleted(run.pk, at=now)
        return None
    except AirflowForbiddenError as exc:
        # Our user may no longer see this DAG. What became of its runs is not known.
        rights.record_refused(client.name, exc)
        return None
