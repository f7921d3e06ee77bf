"""Watch Airflow at a constant cost: each tick polls for changes, and a slower sweep finds the rest.

Neither the requests nor what they answer grow with the number of active runs (`workflows.airflow.feeds`).
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import F, Min
from django.utils import timezone

from workflows import gateway, leases
from workflows.airflow import AirflowClient
from workflows.airflow.errors import AirflowError, AirflowForbiddenError
from workflows.eventlog import publication
from workflows.lifecycle import draining, exits
from workflows.models import Airflow, Run, Workflow
from workflows.watch import questions, stops, sweeps, unshown
from workflows.watch.apply import all_tasks, apply
from workflows.watch.pauses import follow_pauses

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=60)

NO_WORKER_AFTER = timedelta(seconds=6)  # three times the default interval of the schedule


def tick(airflow: str, *, now: datetime) -> bool:
    """Poll an Airflow once. Return False when another worker is polling or Airflow does not answer.

    What was read is applied before the cursor moves, so a crash repeats a poll and loses nothing.
    """
    publication.publish()
    known = Airflow.named(airflow)
    row = Airflow.objects.filter(pk=known.pk)
    row.update(ticked_at=now)
    with leases.held(row, now=now, length=LEASE) as is_held:
        is_polled = is_held and _work(airflow, now)
    if known.is_drained and known.emptied_at is None:
        draining.look(known, now=now)
    return is_polled


def tick_if_no_worker_does(airflow: str) -> None:
    """Poll an Airflow from a command whose user waits, if no worker seems to be running."""
    now = timezone.now()
    ticked_at = Airflow.named(airflow).ticked_at
    if ticked_at is None or now - ticked_at > NO_WORKER_AFTER:
        tick(airflow, now=now)


def _work(airflow: str, now: datetime) -> bool:
    try:
        with gateway.watched(airflow) as client:
            is_sweep_due = sweeps.is_due(airflow, now)
            _poll(client, at=now, before_a_sweep=is_sweep_due)
            questions.ask(client, now=timezone.now())
            if is_sweep_due:
                sweeps.sweep(client, now=timezone.now())
                Airflow.objects.filter(name=airflow).update(swept_at=now)
            stops.look_for_proofs(exits.awaited(airflow, now=now))
            gateway.record_up(airflow, version=client.version(), now=timezone.now())
    except AirflowError as exc:
        logger.warning("poll of Airflow failed", extra={"airflow": airflow, "error": str(exc)})
        if isinstance(exc, AirflowForbiddenError):
            # It answers, but what it shows us is not enough to know the state of any run.
            reason = f"{exc}; manage.py doctor says which right is missing"
            gateway.record_down(airflow, reason=reason, since=now, now=now)
        return False
    return True


def _poll(client: AirflowClient, *, at: datetime, before_a_sweep: bool) -> None:
    """Read what has changed in runs and task instances of our DAGs since the last poll."""
    dag_ids = sorted(_watched_dags(client.name))
    if dag_ids:
        # The overlap covers a difference between our clock and Airflow's, and rows that are committed late.
        since = _read_up_to(client.name, at, before_a_sweep=before_a_sweep) - timedelta(
            seconds=settings.RECONCILE_OVERLAP
        )
        # First: the resumption of a run that has ended since comes before its end.
        follow_pauses(client, at=at)
        adopted = unshown.runs_to_adopt(client, since=since, until=at)
        runs = [*adopted.values(), *client.runs.changed_since(since, dag_ids=dag_ids)]
        of_adopted = [task for tasks in all_tasks(client, adopted.keys()).values() for task in tasks]
        tasks = [*of_adopted, *client.tasks.changed_since(since, dag_ids=dag_ids)]
        tasks += unshown.resumed_tasks(client, since=since)
        apply(client, runs=runs, tasks=tasks, at=at)
    else:
        client.dags.are_shown()  # there is nothing to read yet, but whether Airflow answers us matters
    Airflow.objects.filter(name=client.name).update(looked_at=at)


def _watched_dags(airflow: str) -> set[str]:
    """Return the DAGs there whose runs may be ours: those of workflows, and those that open runs were left on."""
    of_workflows = Workflow.objects.filter(dag__airflow__name=airflow).order_by().values_list("dag__dag_id", flat=True)
    left = Run.objects.open().filter(airflow__name=airflow)
    left = left.exclude(workflow__dag__airflow__name=airflow, workflow__dag__dag_id=F("dag_id"))
    return set(of_workflows.union(left.order_by().values_list("dag_id", flat=True)))


def _read_up_to(airflow: str, at: datetime, *, before_a_sweep: bool) -> datetime:
    """Return when the last poll began, or an earlier time while the end of a run waits for the ends of its tasks.

    The poll before a sweep reads everything since the last sweep again, for rows that Airflow committed very late.
    """
    state = Airflow.named(airflow)
    waiting = (
        Run.objects.open()
        .filter(airflow__name=airflow, end_seen_at__isnull=False)
        .aggregate(first=Min("end_seen_at"))["first"]
    )
    swept_at = state.swept_at if before_a_sweep else None
    times: list[datetime | None] = [state.looked_at or at, waiting, swept_at]
    return min(time for time in times if time)
