"""What reading logs takes of the database: a connection of the pool for each request, none for the reading itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from django.test import AsyncClient
from django.utils import timezone

from accounts.models import User
from workflows.api import log_stream
from workflows.conftest import bearer, token_of
from workflows.models import Run, Workflow
from workflows.states import RunState
from workflows.task_logs.copies import copies
from workflows.tests.stage import StagedAirflow, new_run

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]

RUNS = 6


@pytest.fixture(autouse=True)
def _on_postgres() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no pool")


@pytest.fixture
def runs(airflow: StagedAirflow, nightly: Workflow) -> list[Run]:
    runs = [new_run(nightly, RunState.SUCCESS) for _ in range(RUNS)]
    for run in runs:
        airflow.put_task(run, "load", "success")
        airflow.tasks[run.dag_id, run.dag_run_id, "load", -1]["end_date"] = timezone.now().isoformat()
        airflow.put_log(run, "load", "one", "::group::Post Execute", "::endgroup::")
    return runs


def url_of(run: Run) -> str:
    return f"/api/v1/workflows/{run.workflow_id}/runs/{run.pk}/tasks/load/logs"


def in_use() -> int:
    """Return how many connections of the pool somebody has."""
    pool: Any = connection
    stats = pool.pool.get_stats()
    return int(stats["pool_size"] - stats.get("pool_available", 0))


def until(holds: Callable[[], bool], *, within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, in_use()
        time.sleep(0.01)


def all_are_read() -> bool:
    known = copies()._copies.values()
    return len(known) >= RUNS and not any(copy.is_being_read for copy in known)


def test_readers_of_logs_give_their_connections_back(runs: list[Run], ada: User) -> None:
    token = token_of(ada)
    before = in_use()

    def read(run: Run) -> int:
        try:
            return int(bearer(token).get(url_of(run)).status_code)
        finally:
            # As a web process does at the end of a request; the client of the tests does not.
            connection.close()

    with ThreadPoolExecutor(RUNS) as readers:
        # Beyond the connections to Airflow that one user may have, some are refused.
        statuses = set(readers.map(read, runs))
    for run in runs:
        assert read(run) in {200, 202}
    until(all_are_read)

    assert statuses <= {200, 202, 503}
    until(lambda: in_use() <= before)


async def followed(run: Run, token: str) -> str:
    url = f"{url_of(run)}/stream"
    answer: Any = await AsyncClient().get(url, headers={"Authorization": f"Bearer {token}"})
    return "".join([part.decode() async for part in answer.streaming_content])


def test_followers_of_logs_give_their_connections_back(
    runs: list[Run], ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_stream, "PAUSE", 0.01)
    token = token_of(ada)
    before = in_use()

    async def follow() -> list[str]:
        return [await followed(run, token) for run in runs]

    streams = asyncio.run(follow())

    assert all("event: end" in stream for stream in streams)
    until(all_are_read)
    until(lambda: in_use() <= before)
