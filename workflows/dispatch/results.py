"""Read the result of a run from Airflow: the return value of its result task, in every way that it can be."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings

from workflows.airflow import AirflowClient
from workflows.airflow.errors import AirflowNotFoundError, AirflowTooLargeError
from workflows.lifecycle import deletions, results
from workflows.lifecycle.results import Found
from workflows.models import ResultState, Run, TaskInstance

# Airflow is asked once for each instance of a mapped task.
MOST_INSTANCES = 100


def read_one(client: AirflowClient, run: Run, task_id: str, *, map_index: int = -1) -> Found:
    """Return what one task instance has returned. Raises `AirflowNotFoundError` if that is nothing."""
    # Airflow may write each character of another alphabet as an escape; then there is the rest of its answer.
    limit = 3 * settings.RESULT_MAX_BYTES + 16_384
    try:
        value = client.tasks.return_value(run.dag_id, run.dag_run_id, task_id, map_index=map_index, at_most=limit)
    except AirflowTooLargeError:
        return results.too_large()
    return results.found(value)


def read(client: AirflowClient, run: Run, task_id: str, *, now: datetime) -> Found:
    """Return the result of an ended run, as far as Airflow has one. Raises `AirflowError`."""
    instances = list(run.tasks.filter(task_id=task_id).order_by("map_index", "pk"))
    mapped = sorted({task.map_index for task in instances if task.map_index >= 0})
    if mapped:
        return _read_mapped(client, run, task_id, mapped)
    try:
        return read_one(client, run, task_id)
    except AirflowNotFoundError:
        if deletions.is_gone(client, run, now=now):
            return Found(state=ResultState.UNAVAILABLE, reason="The run was deleted in Airflow.")
        return Found(state=ResultState.MISSING, reason=_why_missing(task_id, instances[-1:]))


def _read_mapped(client: AirflowClient, run: Run, task_id: str, indexes: list[int]) -> Found:
    """Return the values of all instances as a list in their order. One that has returned nothing is null."""
    if len(indexes) > MOST_INSTANCES:
        reason = f"The task {task_id} has {len(indexes)} instances, more than {MOST_INSTANCES}: read them from Airflow."
        return Found(state=ResultState.TOO_LARGE, reason=reason)
    values: list[Any] = []
    for index in indexes:
        try:
            one = read_one(client, run, task_id, map_index=index)
        except AirflowNotFoundError:
            values.append(None)
            continue
        if one.state != ResultState.READY:
            return one
        values.append(one.value)
    return results.found(values)


def _why_missing(task_id: str, last: list[TaskInstance]) -> str:
    if not last:
        return f"The run had no task {task_id}."
    if last[0].state == "success":
        return f"The task {task_id} has returned nothing."
    return f"The task {task_id} has not succeeded: it is {last[0].state or 'not scheduled'}."
