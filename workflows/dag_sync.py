"""Mirrors Airflow's DAGs into ours: schema of the parameters, task graph, tags, paused, import errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from workflows import events, freezing, parameters, upstream
from workflows.airflow import AirflowClient, types
from workflows.models import Dag


@dataclass(frozen=True, kw_only=True)
class SyncResult:
    """What a sync did, as dag_ids."""

    seen: list[str]
    changed: list[str]
    vanished: list[str]
    import_errors: list[str]


def sync_dags(*, now: datetime) -> SyncResult:
    """Read every DAG from Airflow and store what has changed, with an event for each. Raises `AirflowError`."""
    with upstream.watched() as client:
        listed = client.dags.list()
        mirrored = [_mirror(client, dag) for dag in listed]
        errors = client.dags.import_errors()
    changed = [dag_id for dag_id, fields in mirrored if _store(dag_id, fields, now=now)]
    seen = [dag.dag_id for dag in listed]
    return SyncResult(
        seen=seen,
        changed=changed,
        vanished=_mark_vanished(seen, now=now),
        import_errors=_store_import_errors(errors, now=now),
    )


def _mirror(client: AirflowClient, dag: types.Dag) -> tuple[str, dict[str, Any]]:
    details = client.dags.get(dag.dag_id)
    return dag.dag_id, {
        "description": dag.description or "",
        "doc_md": details.doc_md or "",
        "tags": sorted(dag.tags),
        "owners": sorted(dag.owners),
        "timetable_summary": dag.timetable_summary or "",
        "fileloc": dag.fileloc or "",
        "max_active_runs": dag.max_active_runs or 16,
        "is_paused": dag.is_paused,
        "is_present": True,
        "params_schema": parameters.schema_of(details.params),
        "tasks": [_task(task) for task in client.dags.tasks(dag.dag_id)],
    }


def _task(task: types.DagTask) -> dict[str, Any]:
    return asdict(task) | {"downstream_task_ids": sorted(task.downstream_task_ids)}


@transaction.atomic
def _store(dag_id: str, fields: Mapping[str, Any], *, now: datetime) -> bool:
    dag, created = Dag.objects.select_for_update().get_or_create(dag_id=dag_id)
    if dag.commands.filter(finished_at__isnull=True).exists():
        # What Airflow says of it is about to be changed by us.
        fields = {**fields, "is_paused": dag.is_paused}
    changed = sorted(name for name, value in fields.items() if created or getattr(dag, name) != value)
    for name, value in fields.items():
        setattr(dag, name, value)
    dag.synced_at = now
    dag.save()
    if changed:
        events.record(events.DagSynced(dag_id=dag_id, changed=changed), now=now)
    if "is_paused" in changed:
        freezing.note_dag_paused(dag, now=now)
    return bool(changed)


def _mark_vanished(seen: Iterable[str], *, now: datetime) -> list[str]:
    vanished = list(Dag.objects.filter(is_present=True).exclude(dag_id__in=seen))
    for dag in vanished:
        with transaction.atomic():
            Dag.objects.filter(pk=dag.pk).update(is_present=False, synced_at=now)
            events.record(events.DagSynced(dag_id=dag.dag_id, changed=["is_present"]), now=now)
    return [dag.dag_id for dag in vanished]


def _store_import_errors(errors: Iterable[types.DagImportError], *, now: datetime) -> list[str]:
    """Keep each error at the DAGs of its file; an error that was not there before is an event."""
    by_file = {error.filename: error for error in errors}
    broken = []
    for dag in Dag.objects.all():
        error = next((e for name, e in by_file.items() if _is_file(dag.fileloc, name)), None)
        text = error.stack_trace if error else ""
        if text != dag.import_error:
            with transaction.atomic():
                Dag.objects.filter(pk=dag.pk).update(import_error=text)
                if error:
                    data = events.DagImportError(filename=error.filename, dag_ids=[dag.dag_id], error=text[-2000:])
                    events.record(data, now=now)
        if text:
            broken.append(dag.dag_id)
    return broken


def _is_file(path: str, name: str) -> bool:
    """Whether the two are one file: Airflow 3 names it from its bundle on, 2.11 from the root."""
    return f"/{path}".endswith(f"/{name.lstrip('/')}")
