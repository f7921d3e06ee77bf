"""New runs: one, many in one request, while Airflow is down, and by many callers at once, beside Airflow's own POST."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import requests
from django.db import connections

from benchmarks.table.airflow import API
from benchmarks.table.names import BENCH_DAG, NAMED, OWNER
from benchmarks.table.row import QUERIES, Prepare, Row, Work, at_most, ratio
from benchmarks.table.stage import Stage
from rest.sealing import seal
from workflows.models import Airflow

AIRFLOW_TAKES = 0.05  # seconds for a POST, about what a real Airflow takes on a quiet machine
CALLERS = 16
RUNS_PER_CALLER = 4
LATEST = 60.0  # seconds


def _trigger(stage: Stage) -> Work:
    path = f"/api/v1/workflows/{stage.workflow.pk}/runs"
    stage.airflow.control(delay=AIRFLOW_TAKES)
    stage.post(path, {}, username=OWNER)

    def work() -> None:
        for _ in range(stage.many):
            stage.post(path, {}, username=OWNER)

    return work


def _airflows_own(stage: Stage) -> Work:
    post = _poster(stage)
    stage.airflow.control(delay=AIRFLOW_TAKES)
    post()

    def work() -> None:
        for _ in range(stage.many):
            post()

    return work


def _poster(stage: Stage, _number: int = 0) -> Callable[[], str]:
    """Return a function that triggers a run in Airflow itself, over a connection that stays open."""
    session = requests.Session()
    session.headers["Authorization"] = "Bearer scripted"

    def post() -> str:
        run_id = f"own__{uuid.uuid4()}"
        body: dict[str, Any] = {"dag_run_id": run_id, "conf": {}, "note": "", "logical_date": None}
        url = f"{stage.airflow.url}{API}/dags/{BENCH_DAG}/dagRuns"
        session.post(url, json=body, timeout=LATEST).raise_for_status()
        return run_id

    return post


def _batch(stage: Stage) -> Work:
    path = f"/api/v1/workflows/{stage.workflow.pk}/runs/batch"
    stage.post(path, {"items": [{}]}, username=OWNER)

    def work() -> None:
        stage.post(path, {"items": [{} for _ in range(stage.many)]}, username=OWNER)

    return work


def _while_down(stage: Stage) -> Work:
    path = f"/api/v1/workflows/{stage.workflow.pk}/runs"
    stage.client(OWNER)
    stage.airflow.control(down=True)
    Airflow.objects.update(reachable=False)

    def work() -> None:
        for _ in range(stage.many):
            stage.post(path, {}, username=OWNER)

    return work


# --- Many callers -------------------------------------------------------------------------------------------


def _by_many(call: Callable[[Stage, int], Callable[[], str]]) -> Prepare:
    """Return the preparation of `CALLERS` that call at once. The figure is the median until Airflow has the run."""

    def prepare(stage: Stage) -> Work:
        stage.airflow.control(delay=AIRFLOW_TAKES)
        callers = [call(stage, number) for number in range(CALLERS)]

        def work() -> float:
            with stage.platform(), ThreadPoolExecutor(CALLERS) as pool:
                asked = [moment for moments in pool.map(_calls, callers) for moment in moments]
                arrived = _arrivals(stage, {run_id for _, run_id in asked})
            return median(arrived[run_id] - began for began, run_id in asked) * 1000

        return work

    return prepare


def _while_another_hangs(prepare: Prepare) -> Prepare:
    """Return the same work while a second Airflow takes connections and never answers."""

    def with_another(stage: Stage) -> Work:
        work = prepare(stage)

        def beside() -> float | None:
            with socket.create_server(("127.0.0.1", 0)) as hangs:
                options = {"url": f"http://127.0.0.1:{hangs.getsockname()[1]}", "username": "admin"}
                other = Airflow.objects.create(name="other", options=options, secrets=seal('{"password": "admin"}'))
                try:
                    return work()
                finally:
                    other.delete()

        return beside

    return with_another


def _calls(call: Callable[[], str]) -> list[tuple[float, str]]:
    try:
        return [(time.time(), call()) for _ in range(RUNS_PER_CALLER)]
    finally:
        connections.close_all()


def _arrivals(stage: Stage, run_ids: set[str]) -> dict[str, float]:
    """Return when Airflow got each run."""
    ends = time.monotonic() + LATEST
    while True:
        arrived: dict[str, Any] = dict(stage.airflow.control(arrived=True)["arrived"])
        if run_ids <= arrived.keys():
            return arrived
        assert time.monotonic() < ends, f"Airflow lacks {len(run_ids - arrived.keys())} runs after {LATEST} s"
        time.sleep(0.05)


def _svops_caller(stage: Stage, number: int) -> Callable[[], str]:
    """Return a function with which one of many users triggers a run. One user would wait for a turn."""
    path = f"/api/v1/workflows/{stage.workflow.pk}/runs"
    client = stage.new_client(f"user{len(NAMED) + 1 + number}")

    def post() -> str:
        answer = client.post(path, data="{}", content_type="application/json")
        assert answer.status_code == 201, answer.content[:300]
        return str(answer.json()["dag_run_id"])

    return post


ROWS = [
    Row(
        name="trigger",
        goals=(at_most(14, QUERIES), at_most(20, "cpu"), ratio(at_most=1.3)),
        subject=_trigger,
        peer=_airflows_own,
        peer_name=f"Airflow's own POST, which takes {AIRFLOW_TAKES * 1000:.0f} ms",
        many=10,
        seen="36 queries, 40 to 70 ms CPU, 2.3 times",
    ),
    Row(
        name="batch item",
        goals=(at_most(4, QUERIES),),
        subject=_batch,
        many=50,
        counted=10,
        seen="34 queries",
    ),
    Row(
        name="accept while Airflow is down",
        goals=(at_most(10, QUERIES), at_most(12, "cpu")),
        subject=_while_down,
        many=10,
        seen="22 queries, 32 ms CPU",
    ),
    Row(
        name=f"{CALLERS} callers: median until Airflow has the run",
        goals=(ratio(at_most=1.3),),
        subject=_by_many(_svops_caller),
        peer=_by_many(_poster),
        peer_name="Airflow's own POST by as many",
        counts=False,
        rounds=4,
        seen="1.6 to 2.1 s against 40 ms of one caller",
    ),
    Row(
        name=f"{CALLERS} callers while another Airflow hangs",
        goals=(ratio(at_most=1.1),),
        subject=_while_another_hangs(_by_many(_svops_caller)),
        peer=_by_many(_svops_caller),
        peer_name="the same with one Airflow",
        counts=False,
        rounds=6,
        seen="not possible: there was one Airflow",
    ),
]
