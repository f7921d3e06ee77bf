"""The result of a run: owed from the end of the run on, and then found, in whatever state.

A result belongs to one attempt. The next attempt that succeeds replaces it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from rest.masking import mask
from workflows.eventlog import events
from workflows.eventlog.events import ResultData
from workflows.models import ResultState, Run, RunResult
from workflows.states import TERMINAL, RunState
from workflows.storable import storable

COLUMNS = ("attempt", "task_id", "state", "value", "size", "reason", "found_at")
NOT_ENDED = "The run has not ended."
NOT_A_SUCCESS = "Only a run that has succeeded has a result."
NO_TASK = "The workflow named no result_task when the run ended."
EXPECTS_NONE = "The workflow names no result_task."
NOT_READ = "It is still to be read from Airflow."


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came of the result, for good."""

    state: ResultState
    value: Any = None
    size: int | None = None
    reason: str = ""


def size_of(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"))


def found(value: Any) -> Found:
    """Return the value as a result, if it is small enough."""
    value = storable(value)
    size = size_of(value)
    if size > settings.RESULT_MAX_BYTES:
        return too_large(size)
    return Found(state=ResultState.READY, value=value, size=size)


def too_large(size: int | None = None) -> Found:
    reason = f"The result is larger than RESULT_MAX_BYTES ({settings.RESULT_MAX_BYTES} bytes): read it from Airflow."
    return Found(state=ResultState.TOO_LARGE, size=size, reason=reason)


def row(run: Run, task_id: str, known: Found | None, *, now: datetime) -> RunResult:
    """Return the row of the result of this attempt; without `known`, it is still owed."""
    shown = known or Found(state=ResultState.PENDING)
    return RunResult(
        run=run,
        attempt=run.attempt,
        task_id=task_id,
        state=shown.state,
        value=shown.value,
        size=shown.size,
        reason=mask(shown.reason),
        found_at=now if known else None,
    )


def save(rows: Iterable[RunResult]) -> None:
    """Write these in place of the results of earlier attempts."""
    RunResult.objects.bulk_create(rows, update_conflicts=True, unique_fields=["run"], update_fields=COLUMNS)


def is_awaited(run: Run, attempt: int) -> bool:
    """Return whether the result of this attempt is still owed: it is over if the run has begun again since."""
    if run.attempt != attempt or run.state != RunState.SUCCESS:
        return False
    return RunResult.objects.filter(run=run, attempt=attempt, state=ResultState.PENDING).exists()


@transaction.atomic
def settle(run: Run, *, attempt: int, known: Found, now: datetime) -> bool:
    """Record what came of an owed result, once, with its event. Return whether this call did it."""
    run = Run.objects.select_for_update().get(pk=run.pk)
    if not is_awaited(run, attempt):
        return False
    settled = row(run, RunResult.objects.get(run=run).task_id, known, now=now)
    save([settled])
    events.record(events.WorkflowResult(**events.fields_of(run), result=data_of(run, settled)), now=now, run=run)
    return True


def data_of(run: Run, result: RunResult) -> ResultData:
    """Return the result as the API and the events show it."""
    of_xcom = f"dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances/{result.task_id}/xcomEntries/return_value"
    return {
        "state": ResultState(result.state),
        "task_id": result.task_id,
        "value": result.value,
        "size": result.size,
        "reason": result.reason or (NOT_READ if result.state == ResultState.PENDING else ""),
        "reference": of_xcom if result.state == ResultState.TOO_LARGE else "",
    }


def shown(run: Run) -> ResultData:
    """Return the result of the run as it is now, also if there is none. Its workflow is read with it."""
    known: RunResult | None = getattr(run, "result", None)
    if known and known.attempt == run.attempt and run.state == RunState.SUCCESS:
        return data_of(run, known)
    task_id = run.workflow.result_task
    state, reason = ResultState.NONE, NO_TASK
    if run.state not in TERMINAL:
        state, reason = (ResultState.PENDING, NOT_ENDED) if task_id else (ResultState.NONE, EXPECTS_NONE)
    elif run.state != RunState.SUCCESS:
        reason = NOT_A_SUCCESS
    return {"state": state, "task_id": task_id, "value": None, "size": None, "reason": reason, "reference": ""}
