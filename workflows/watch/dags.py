"""Mirror Airflow's DAGs into ours: schema of the parameters, task graph, tags, paused, import errors.

DAG authors write most of this, so none of it is trusted: a DAG that cannot be understood is marked, the others go on.

The list of DAGs is read as a whole, in pages. Parameters and tasks take two or three requests for each DAG, so they are
read only if the DAG is news (`_is_news`), and of a few others in turn: Airflow does not show each change in its lists.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from itertools import islice
from typing import Any

from django.db import DataError, IntegrityError, transaction

from rest.errors import BusyError
from rest.masking import mask
from workflows import gateway, leases, parameters, rights
from workflows.airflow import AirflowClient, types
from workflows.airflow.errors import (
    AirflowError,
    AirflowForbiddenError,
    AirflowNotFoundError,
    AirflowRejectedError,
    AirflowShapeError,
    AirflowUnavailableError,
)
from workflows.deeds import Deed
from workflows.eventlog import events
from workflows.lifecycle import freezing
from workflows.models import Airflow, Dag
from workflows.storable import is_storable, storable
from workflows.watch import dag_files, pauses

logger = logging.getLogger(__name__)

Fields = dict[str, Any]
MAX_INTEGER = 2**31 - 1

LEASE = timedelta(seconds=60)
LONGEST_WAIT = 10.0
# How many DAGs that are no news a sync reads. With twenty DAGs or fewer, each sync reads all of them.
IN_TURN = 20
# Airflow lists its versions of DAGs, the newest first. A sync reads on until so many in a row are known.
KNOWN_IN_A_ROW, MOST_VERSIONS = 100, 1000
# How far our clock and Airflow's may be apart.
CLOCKS = timedelta(seconds=60)
DETAILS = ("doc_md", "params_schema", "tasks")


@dataclass(frozen=True, kw_only=True)
class SyncResult:
    """The dag_ids that a sync has seen, changed and so on."""

    seen: list[str]
    changed: list[str]
    vanished: list[str]
    import_errors: list[str]
    unusable: list[str]


def sync_dags(airflow: str, *, now: datetime, whole: bool = False) -> SyncResult:
    """Read the DAGs from an Airflow and store the changes, with an event for each DAG. Raises `AirflowError`.

    `whole` reads the parameters and tasks of every DAG. `now` is from before the call: reading many DAGs takes a while,
    and what was learnt meanwhile is newer. While another worker syncs, this raises `BusyError`: at once, or, with
    `whole`, after a wait for that sync to end.
    """
    row = Airflow.objects.filter(pk=Airflow.named(airflow).pk)
    gives_up_at = time.monotonic() + (LONGEST_WAIT if whole else 0)
    while True:
        with leases.held(row, now=now, length=LEASE, field="dags_leased_until") as is_held:
            if is_held:
                return _sync(airflow, now=now, whole=whole)
        if time.monotonic() >= gives_up_at:
            raise BusyError("The DAGs are being synced. Try again.")
        time.sleep(0.2)


def _sync(airflow: str, *, now: datetime, whole: bool) -> SyncResult:
    ours = Dag.objects.of(airflow)
    known = {dag.dag_id: dag for dag in ours.defer(*DETAILS, "import_error")}
    with gateway.watched(airflow) as client:
        listed = {dag.dag_id: dag for dag in client.dags.list()}
        newest = _newest_versions(client, {dag_id: known.get(dag_id) for dag_id in listed})
        chosen = list(listed) if whole else _to_read(listed.values(), known, newest)
        read = {dag_id: _read(client, listed[dag_id]) for dag_id in chosen}
        errors = _import_errors(client)
        _look_for_hidden(client, [dag for dag_id, dag in known.items() if dag.is_present and dag_id not in listed])
    # A DAG without fields was deleted while we read.
    mirrored = {dag_id: fields for dag_id in listed if (fields := _fields(listed[dag_id], read)) is not None}
    changed = _store_all(airflow, mirrored, known, now=now)
    _note_what_was_read(airflow, [dag_id for dag_id in mirrored if "tasks" in mirrored[dag_id]], newest, now=now)
    for dag_id in mirrored:
        rights.record_allowed(known.get(dag_id), Deed.SEE)
    vanished = _mark_vanished(airflow, mirrored, now=now)
    import_errors = [] if errors is None else dag_files.store(airflow, errors, now=now)
    unusable = ours.filter(dag_id__in=mirrored).exclude(unusable_reason="").order_by("dag_id")
    return SyncResult(
        seen=list(mirrored),
        changed=changed,
        vanished=vanished,
        import_errors=import_errors,
        unusable=list(unusable.values_list("dag_id", flat=True)),
    )


# --- Which DAGs are read -------------------------------------------------------------------------------------


def _newest_versions(client: AirflowClient, known: Mapping[str, Dag | None]) -> dict[str, int]:
    """Return the newest version of each DAG that has got one lately. Airflow 2.11 has none."""
    newest: dict[str, int] = {}
    known_in_a_row = 0
    try:
        for dag_id, number in islice(client.dags.versions(), MOST_VERSIONS):
            # A version of a DAG that Airflow does not list any more is no news.
            row = known.get(dag_id)
            is_known = dag_id not in known or bool(row and row.version and number <= row.version)
            newest.setdefault(dag_id, number)
            known_in_a_row = known_in_a_row + 1 if is_known else 0
            if known_in_a_row == KNOWN_IN_A_ROW:
                break
    except (AirflowForbiddenError, AirflowNotFoundError, AirflowRejectedError) as exc:
        logger.info("versions of DAGs not read", extra={"error": str(exc)})
    return newest


def _to_read(
    listed: Iterable[types.Dag | types.UnreadableDag], known: Mapping[str, Dag], newest: Mapping[str, int]
) -> list[str]:
    """Return the DAGs to read: those that are news, and of those that Airflow has parsed since, the longest unread."""
    news: list[str] = []
    others: list[tuple[datetime, str]] = []
    for dag in listed:
        row = known.get(dag.dag_id)
        if _is_news(dag, row, newest.get(dag.dag_id)):
            news.append(dag.dag_id)
        elif row and row.read_at and _may_have_changed(dag, since=row.read_at):
            others.append((row.read_at, dag.dag_id))
    return news + [dag_id for _, dag_id in sorted(others)[:IN_TURN]]


def _is_news(dag: types.Dag | types.UnreadableDag, row: Dag | None, version: int | None) -> bool:
    """Return whether Airflow's lists show a change. They do not if the DAG has had no run since its last version."""
    if isinstance(dag, types.UnreadableDag) or row is None or row.read_at is None or row.unusable_reason:
        return True
    if version is not None and version != row.version:
        return True
    return any(getattr(row, name) != value for name, value in _listed(dag).items() if name != "is_paused")


def _may_have_changed(dag: types.Dag | types.UnreadableDag, *, since: datetime) -> bool:
    """Return whether Airflow has parsed the DAG since. It parses each file again and again, changed or not."""
    parsed_at = None if isinstance(dag, types.UnreadableDag) else dag.parsed_at
    return parsed_at is None or parsed_at > since - CLOCKS


def _fields(dag: types.Dag | types.UnreadableDag, read: Mapping[str, Fields | None]) -> Fields | None:
    return _listed(dag) if isinstance(dag, types.Dag) and dag.dag_id not in read else read[dag.dag_id]


def _read(client: AirflowClient, dag: types.Dag | types.UnreadableDag) -> Fields | None:
    """Return the fields to store. A DAG that cannot be understood keeps its last ones and gets the reason."""
    if isinstance(dag, types.UnreadableDag):
        return _unusable(dag.reason)
    try:
        return _listed(dag) | _detailed(client, dag.dag_id) | {"unusable_reason": ""}
    except AirflowNotFoundError:
        return None
    except (AirflowShapeError, parameters.UnusableSchemaError) as exc:
        return _listed(dag) | _unusable(str(exc))
    except AirflowForbiddenError as exc:
        return _listed(dag) | _unusable(f"{exc}.")
    except AirflowUnavailableError as exc:
        if exc.status != HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
        return _unshown(client.name, dag, exc)
    except AirflowError:
        raise
    except Exception as exc:
        # A fault of ours with this one DAG. It must not hold up the others.
        logger.exception("DAG not understood", extra={"dag_id": dag.dag_id})
        return _listed(dag) | _unusable(f"{type(exc).__name__}: {exc}")


def _import_errors(client: AirflowClient) -> list[types.DagImportError] | None:
    """Return the import errors of DAG files, or None if our user may not read them: the DAGs are known all the same."""
    try:
        return client.dags.import_errors()
    except AirflowForbiddenError as exc:
        logger.info("import errors not read", extra={"error": str(exc)})
        return None


def _look_for_hidden(client: AirflowClient, vanished: Iterable[Dag]) -> None:
    """Find out which of the DAGs that are listed no more are only hidden from our user."""
    for dag in vanished:
        try:
            client.dags.get(dag.dag_id)
        except AirflowForbiddenError as exc:
            rights.record_refused(client.name, exc)
        except AirflowError as exc:
            logger.info("a DAG is listed no more", extra={"dag_id": dag.dag_id, "error": str(exc)})


def _unshown(airflow: str, dag: types.Dag, exc: AirflowError) -> Fields:
    """Handle a DAG whose details Airflow itself cannot show now. One that we know stays as it is."""
    logger.warning("Airflow cannot show a DAG", extra={"dag_id": dag.dag_id, "error": str(exc)})
    known = Dag.objects.of(airflow).filter(dag_id=dag.dag_id).exists()
    return _listed(dag) if known else _listed(dag) | _unusable(f"Airflow cannot show its details: {exc}")


def _unusable(reason: str) -> Fields:
    return {"is_present": True, "unusable_reason": mask(str(storable(reason)))}


def _listed(dag: types.Dag) -> Fields:
    fields = {
        "description": dag.description or "",
        "tags": sorted(dag.tags),
        "owners": sorted(dag.owners),
        "timetable_summary": (dag.timetable_summary or "")[:250],
        "fileloc": dag.fileloc[:1000],
        "bundle_name": (dag.bundle_name or "")[:250],
        "relative_fileloc": (dag.relative_fileloc or "")[:2000],
    }
    numbers = {"max_active_runs": min(max(dag.max_active_runs or 16, 0), MAX_INTEGER)}
    return {**storable(fields), **numbers, "is_paused": dag.is_paused, "is_present": True}


def _detailed(client: AirflowClient, dag_id: str) -> Fields:
    details = client.dags.get(dag_id)
    tasks = [_task(task) for task in client.dags.tasks(dag_id)]
    schema = parameters.schema_of(details.params)
    if not is_storable(schema):
        raise parameters.UnusableSchemaError("Its parameters have a NUL character, half a character, NaN or Infinity.")
    return {"doc_md": storable(details.doc_md or ""), "params_schema": schema, "tasks": storable(tasks)}


def _task(task: types.DagTask) -> Fields:
    return asdict(task) | {"downstream_task_ids": sorted(task.downstream_task_ids)}


def _store_all(airflow: str, mirrored: Mapping[str, Fields], known: Mapping[str, Dag], *, now: datetime) -> list[str]:
    """Store what differs. Return the DAGs that have changed."""
    of_read = {dag_id for dag_id, fields in mirrored.items() if not fields.keys().isdisjoint(DETAILS)}
    rows = {
        **known,
        **{dag.dag_id: dag for dag in Dag.objects.of(airflow).filter(dag_id__in=of_read).defer("import_error")},
    }
    differing = [dag_id for dag_id, fields in mirrored.items() if _differs(rows.get(dag_id), fields)]
    Dag.objects.of(airflow).filter(dag_id__in=mirrored.keys() - set(differing)).update(synced_at=now)
    return [dag_id for dag_id in differing if _store_or_mark(airflow, dag_id, mirrored[dag_id], now=now)]


def _differs(row: Dag | None, fields: Fields) -> bool:
    return row is None or any(getattr(row, name) != value for name, value in fields.items())


def _note_what_was_read(airflow: str, dag_ids: Collection[str], newest: Mapping[str, int], *, now: datetime) -> None:
    dags = list(Dag.objects.of(airflow).filter(dag_id__in=dag_ids).only("pk", "dag_id", "version"))
    for dag in dags:
        dag.read_at, dag.version = now, newest.get(dag.dag_id, dag.version)
    Dag.objects.bulk_update(dags, ["read_at", "version"], batch_size=200)


def _store_or_mark(airflow: str, dag_id: str, fields: Mapping[str, Any], *, now: datetime) -> bool:
    try:
        return _store(airflow, dag_id, fields, now=now)
    except (DataError, IntegrityError) as exc:
        logger.exception("DAG not stored", extra={"dag_id": dag_id})
        return _store(airflow, dag_id, _unusable(f"The database cannot store it: {exc}"), now=now)


@transaction.atomic
def _store(airflow: str, dag_id: str, fields: Mapping[str, Any], *, now: datetime) -> bool:
    dag, created = Dag.objects.select_for_update().get_or_create(airflow_id=airflow, dag_id=dag_id)
    if not created and pauses.is_outdated(dag, at=now):
        fields = {**fields, "is_paused": dag.is_paused}
    changed = sorted(name for name, value in fields.items() if created or getattr(dag, name) != value)
    for name, value in fields.items():
        setattr(dag, name, value)
    dag.synced_at = now
    dag.save()
    if changed:
        events.record(events.synced(dag, changed=changed), now=now, dag=dag)
    if "is_paused" in changed:
        freezing.follow_dag(dag, now=now)
    return bool(changed)


def _mark_vanished(airflow: str, seen: Collection[str], *, now: datetime) -> list[str]:
    present = Dag.objects.of(airflow).filter(is_present=True).only("pk", "airflow", "dag_id")
    vanished = [dag for dag in present if dag.dag_id not in seen]
    for dag in vanished:
        with transaction.atomic():
            Dag.objects.filter(pk=dag.pk).update(is_present=False, synced_at=now)
            events.record(events.synced(dag, changed=["is_present"]), now=now, dag=dag)
    return [dag.dag_id for dag in vanished]
