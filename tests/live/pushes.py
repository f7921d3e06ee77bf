"""Pushes of Airflow's listener, and what a poll shows of the same runs."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from django.utils import timezone

from tests.live.parts import Web
from workflows.airflow.tests.scripted import ScriptedAirflow, paged, run_json, task_json
from workflows.models import Event, Run, TaskInstance
from workflows.naming import DEFAULT
from workflows.watch import poll

SECRET = "shared with the plugin"
NOON = datetime.now(UTC).replace(microsecond=0)


def at(second: float) -> str:
    return (NOON + timedelta(seconds=second)).isoformat()


def pushed_run(run: Run, state: str, *, end: float | None = None, **fields: Any) -> dict[str, Any]:
    """Return what the plugin sends about a run."""
    known: dict[str, Any] = {
        "kind": "run",
        "at": at(0),
        "dag_id": run.dag_id,
        "dag_run_id": run.dag_run_id,
        "run_type": "manual",
    }
    return known | {"state": state, "start_date": at(1), "end_date": None if end is None else at(end)} | fields


def pushed_task(
    run: Run, task_id: str, state: str, *, start: float, end: float | None = None, **fields: Any
) -> dict[str, Any]:
    """Return what the plugin sends about a task."""
    known: dict[str, Any] = {"kind": "task", "at": at(end or start), "dag_id": run.dag_id, "dag_run_id": run.dag_run_id}
    known |= {"task_id": task_id, "map_index": -1, "try_number": 1, "max_tries": 0, "state": state}
    return known | {"start_date": at(start), "end_date": None if end is None else at(end)} | fields


def signed(body: bytes, *, secret: str = SECRET, sent_at: float | None = None) -> dict[str, str]:
    moment = str(int(time.time() if sent_at is None else sent_at))
    signature = hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"X-SVOps-Timestamp": moment, "X-SVOps-Signature": signature, "Content-Type": "application/json"}


def post(web: Web, body: bytes, headers: dict[str, str]) -> requests.Response:
    return requests.post(f"{web.url}/api/v1/ingest", data=body, headers=headers, timeout=20)


def push(web: Web, *records: dict[str, Any]) -> None:
    body = json.dumps({"records": records, "dropped": 0}).encode()
    answer = post(web, body, signed(body))
    assert (answer.status_code, answer.json()) == (202, {"taken": len(records)})


def events_of(run: Run) -> list[tuple[str, str]]:
    """Return type and task of each event of a run, in order."""
    return list(Event.objects.filter(run=run).order_by("seq").values_list("type", "task_id"))


def everything() -> list[Any]:
    models = (Event, Run, TaskInstance)
    return [list(model.objects.order_by("pk").values()) for model in models]


def shows(airflow: ScriptedAirflow, runs: list[dict[str, Any]], tasks: list[dict[str, Any]]) -> None:
    """Let Airflow answer polls with these runs and tasks, and requests for the tasks of one run."""
    airflow.answers["GET", "/dags/~/dagRuns"] = paged("dag_runs", runs)
    airflow.answers["GET", "/dags/~/dagRuns/~/taskInstances"] = paged("task_instances", tasks)
    airflow.answers["GET", "/eventLogs"] = paged("event_logs", [])
    airflow.answers["POST", "/dags/~/dagRuns/list"] = paged("dag_runs", runs)
    for run in runs:
        of_run = [task for task in tasks if task["dag_run_id"] == run["dag_run_id"]]
        path = f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances"
        airflow.answers["GET", path] = paged("task_instances", of_run)


def polled_run(run: Run, state: str, *, end: float | None = None) -> dict[str, Any]:
    end_date = None if end is None else at(end)
    return run_json(run.dag_id, run.dag_run_id, state=state, start_date=at(1), end_date=end_date)


def polled_task(run: Run, task_id: str, state: str, *, start: float, end: float | None = None) -> dict[str, Any]:
    dates = {"start_date": at(start), "end_date": None if end is None else at(end)}
    return task_json(run.dag_id, run.dag_run_id, task_id, state=state, try_number=1, **dates)


def poll_airflow() -> None:
    assert poll.tick(DEFAULT, now=timezone.now())
