"""The rows of a list of runs, made of columns: a page has neither a model nor a serializer for each row.

New runs are answered in the same way. `ListedRunSerializer`, `RunSerializer` and `BatchedRunSerializer` describe the
rows. Tests compare the two, field by field.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from rest.masking import mask
from rest.times import iso
from workflows.models import Airflow, Run, TaskInstance
from workflows.states import TERMINAL, RunState

COLUMNS = (
    "id", "workflow_id", "workflow__name", "airflow_id", "dag_id", "dag_run_id", "state", "state_reason", "paused",
    "trigger_type", "user_id", "user__username", "task_id", "dataset_id", "note", "attempt", "created_at", "run_at",
    "logical_date", "data_interval_start", "data_interval_end", "queued_at", "started_at", "ended_at", "observed_at",
)  # fmt: skip
Row = Mapping[str, Any]


def columns(runs: QuerySet[Run], *, parameters: bool) -> QuerySet[Run, dict[str, Any]]:
    """Return the query for what `shown` needs of each run."""
    named: QuerySet[Run, dict[str, Any]] = runs.values(*COLUMNS, *(["parameters"] if parameters else []))
    return named


def shown(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows as they are answered."""
    return _all_shown(rows, Airflow.by_name())


def shown_run(run: Run, *, airflows: Mapping[str, Airflow], parameters: bool) -> dict[str, Any]:
    """Return a run that was read already as it is answered. It must have been read with its workflow and its user."""
    names = {"workflow__name": run.workflow.name, "user__username": run.user and run.user.username}
    row = {column: names[column] if column in names else getattr(run, column) for column in COLUMNS}
    [shown] = _all_shown([row | {"parameters": run.parameters} if parameters else row], airflows)
    return shown


def _all_shown(rows: Sequence[Row], airflows: Mapping[str, Airflow]) -> list[dict[str, Any]]:
    now, pausing = timezone.now(), _pausing(rows)
    return [_shown(row, airflows[row["airflow_id"]], now=now, pausing=row["id"] in pausing) for row in rows]


def _pausing(rows: Sequence[Row]) -> Set[uuid.UUID]:
    """Return which of these runs are pausing; see `Run.is_pausing`."""
    asked = [row["id"] for row in rows if row["paused"] and row["state"] == RunState.RUNNING]
    return TaskInstance.objects.runs_at_work(asked) if asked else frozenset()


def _shown(row: Row, airflow: Airflow, *, now: datetime, pausing: bool) -> dict[str, Any]:
    observed_at = airflow.confirmed_at(row["observed_at"], dag_id=row["dag_id"], ended=row["state"] in TERMINAL)
    return {
        "id": str(row["id"]),
        "workflow_id": row["workflow_id"],
        "workflow_name": row["workflow__name"],
        "airflow": row["airflow_id"],
        "dag_id": row["dag_id"],
        "dag_run_id": row["dag_run_id"],
        "state": row["state"],
        "state_reason": mask(row["state_reason"]),
        "paused": row["paused"] and not pausing,
        "pausing": pausing,
        "trigger_type": row["trigger_type"],
        "user_id": row["user_id"],
        "username": row["user__username"],
        "caller_task_ref": row["task_id"],
        "caller_dataset_ref": row["dataset_id"],
        "task_id": row["task_id"],
        "dataset_id": row["dataset_id"],
        **({"parameters": row["parameters"]} if "parameters" in row else {}),
        "note": row["note"],
        "attempt": row["attempt"],
        "created_at": _moment(row["created_at"]),
        "run_at": _moment(row["run_at"]),
        "logical_date": _moment(row["logical_date"]),
        "data_interval": _interval(row),
        "queued_at": _moment(row["queued_at"]),
        "started_at": _moment(row["started_at"]),
        "ended_at": _moment(row["ended_at"]),
        "duration_s": _seconds(row["started_at"], row["ended_at"]),
        "observed_at": _moment(observed_at),
        "stale": airflow.is_run_stale(row["dag_id"], now=now),
    }


def _moment(at: datetime | None) -> str | None:
    return iso(at) if at else None


def _interval(row: Row) -> dict[str, str | None] | None:
    start, end = row["data_interval_start"], row["data_interval_end"]
    return {"start": _moment(start), "end": _moment(end)} if start and end else None


def _seconds(started_at: datetime | None, ended_at: datetime | None) -> float | None:
    return (ended_at - started_at).total_seconds() if started_at and ended_at else None
