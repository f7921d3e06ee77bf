"""Follow the pauses of DAGs in Airflow: they are part of no run, so the feeds of changed runs do not show them."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import Q

from workflows.airflow import AirflowClient
from workflows.eventlog import events
from workflows.lifecycle import freezing
from workflows.models import CommandKind, Dag, Event


def follow_pauses(client: AirflowClient, *, at: datetime) -> None:
    """Store which of our DAGs there somebody has paused or unpaused in Airflow, with its events.

    Only the paused DAGs are read: one request, however many DAGs there are.
    """
    paused = {dag.dag_id for dag in client.dags.list(paused=True)}
    differs = Q(is_paused=False, dag_id__in=paused) | (Q(is_paused=True) & ~Q(dag_id__in=paused))
    ours = Dag.objects.of(client.name).filter(is_present=True)
    for pk, dag_id in ours.filter(differs).values_list("pk", "dag_id"):
        _store_pause(pk, paused=dag_id in paused, at=at)
    for pk in freezing.differing(client.name).values_list("pk", flat=True):
        _mark_runs(pk, at=at)


@transaction.atomic
def _mark_runs(pk: int, *, at: datetime) -> None:
    freezing.follow_dag(Dag.objects.select_for_update().get(pk=pk), now=at)


@transaction.atomic
def _store_pause(pk: int, *, paused: bool, at: datetime) -> None:
    dag = Dag.objects.select_for_update().get(pk=pk)
    if dag.is_paused == paused or is_outdated(dag, at=at):
        return
    dag.is_paused = paused
    dag.save(update_fields=["is_paused"])
    events.record(events.synced(dag, changed=["is_paused"]), now=at, dag=dag)
    freezing.follow_dag(dag, now=at)


def is_outdated(dag: Dag, *, at: datetime) -> bool:
    """Return whether what Airflow showed at `at` says nothing of the DAG's pause any more.

    A command of ours changes it, or has done so since. Or a poll, a push or a sync has read it later: they may overlap.
    """
    ours = dag.commands.filter(kind__in=(CommandKind.PAUSE, CommandKind.UNPAUSE))
    if ours.filter(Q(finished_at__isnull=True) | Q(finished_at__gte=at)).exists():
        return True
    later = Event.objects.filter(dag=dag, type=events.DagSynced.type, timestamp__gt=at)
    return any("is_paused" in changed for changed in later.values_list("data__changed", flat=True))
