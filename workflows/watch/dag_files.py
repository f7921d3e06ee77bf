"""The DAG files that Airflow cannot import: one event for each new or changed error, also if a file has no DAG."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db import transaction

from rest.masking import mask
from workflows.airflow import types
from workflows.eventlog import events
from workflows.models import Dag, DagFileError
from workflows.storable import storable

# An object's place in memory is another one each time that Airflow reads the file.
ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}")
MAX_ERROR_IN_EVENT = 2000


def store(airflow: str, errors: Iterable[types.DagImportError], *, now: datetime) -> list[str]:
    """Store each error, with the DAGs of its file too. A new or changed one is an event. Return the broken DAGs."""
    of_airflow = Dag.objects.of(airflow)
    dags = list(of_airflow.only("airflow", "dag_id", "bundle_name", "relative_fileloc", "fileloc", "import_error"))
    known = DagFileError.objects.filter(airflow__name=airflow)
    stored = {(file.bundle_name, file.filename): file for file in known}
    error_of: dict[int, str] = {}
    files = []
    for error in errors:
        own = [dag for dag in dags if _is_of(dag, error)]
        text = _settled(error.stack_trace)
        error_of |= {dag.pk: text for dag in own}
        file = stored.get(_key(error))
        files.append(file.pk if file and file.error == text else _store_file(airflow, error, text, own, now=now))
    known.exclude(pk__in=files).delete()
    for dag in dags:
        text = error_of.get(dag.pk, "")
        if text != dag.import_error:
            _store_on_dag(dag, text, now=now)
    return [dag.dag_id for dag in dags if dag.pk in error_of]


@transaction.atomic
def _store_on_dag(dag: Dag, text: str, *, now: datetime) -> None:
    """Store the error with the DAG. Those who see the DAG learn that it has one, or has none any more."""
    had_one = bool(dag.import_error)
    if Dag.objects.filter(pk=dag.pk, import_error=dag.import_error).update(import_error=text) and had_one != bool(text):
        events.record(events.synced(dag, changed=["import_error"]), now=now, dag=dag)


@transaction.atomic
def _store_file(airflow: str, error: types.DagImportError, text: str, own: Sequence[Dag], *, now: datetime) -> int:
    """Store the error of one file and return its row's id. The lock makes two syncs at once record one event."""
    bundle_name, filename = _key(error)
    row, created = DagFileError.objects.select_for_update().get_or_create(
        airflow_id=airflow, bundle_name=bundle_name, filename=filename, defaults={"error": text}
    )
    if created or row.error != text:
        row.error = text
        row.save(update_fields=["error"])
        shown = text[-MAX_ERROR_IN_EVENT:]
        dag_ids = [dag.dag_id for dag in own]
        data = events.DagImportError(airflow=airflow, filename=row.filename, dag_ids=dag_ids, error=shown)
        events.record(data, now=now, dag=own[0] if own else None)
    return row.pk


def _key(error: types.DagImportError) -> tuple[str, str]:
    return str(storable(error.bundle_name or ""))[:250], str(storable(error.filename))[:2000]


def _is_of(dag: Dag, error: types.DagImportError) -> bool:
    """Return whether it is the DAG's file: the same path in the same bundle, or from the root in 2.11."""
    if error.bundle_name and dag.bundle_name and error.bundle_name != dag.bundle_name:
        return False
    return error.filename in (dag.relative_fileloc, dag.fileloc)


def _settled(stack_trace: str) -> str:
    """Return the text to store: the same for the same error, and without secrets. Its author finds them in Airflow."""
    return mask(str(storable(ADDRESS.sub("0x…", stack_trace))))
