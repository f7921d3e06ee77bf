"""What the API of one Airflow says of all runs of the chaos."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from tests.chaos.side import DAG_IDS, Side

Key = tuple[str, int]
OPEN_IN_AIRFLOW = ["queued", "running"]


def runs(side: Side, **filters: Any) -> dict[str, dict[str, Any]]:
    """Return every DAG run of the chaos by its dag_run_id."""
    found: dict[str, dict[str, Any]] = {}
    body: dict[str, Any] = {"dag_ids": sorted(DAG_IDS), "page_limit": 1000, "page_offset": 0, **filters}
    while page := side.ask("POST", "/dags/~/dagRuns/list", body)["dag_runs"]:
        found |= {run["dag_run_id"]: run for run in page}
        body["page_offset"] += 1000
    return found


def tasks(side: Side, dag_run_ids: Iterable[str]) -> dict[str, dict[Key, dict[str, Any]]]:
    """Return the task instances of these DAG runs, by dag_run_id and by (task_id, map_index)."""
    found: defaultdict[str, dict[Key, dict[str, Any]]] = defaultdict(dict)
    asked = sorted(dag_run_ids)
    for start in range(0, len(asked), 20):
        body = {"dag_run_ids": asked[start : start + 20], "page_limit": 1000}
        answer = side.ask("POST", "/dags/~/dagRuns/~/taskInstances/list", body)
        for task in answer["task_instances"]:
            found[task["dag_run_id"]][task["task_id"], task["map_index"]] = task
    return found


def questions(side: Side) -> dict[str, dict[str, Any]]:
    """Return what every task asks or has asked a person, with the answers, by the id of the task instance."""
    found: dict[str, dict[str, Any]] = {}
    while page := side.ask("GET", f"/dags/~/dagRuns/~/hitlDetails?limit=100&offset={len(found)}"):
        details = page["hitl_details"]
        found |= {one["task_instance"]["id"]: one for one in details}
        if len(details) < 100:
            break
    return found
