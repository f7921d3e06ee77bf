"""How many queries a trigger costs. What begins and ends a transaction is not counted; savepoints are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from tests.control.staged import ControlledAirflow
from workflows.models import Airflow, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.watch import poll

pytestmark = pytest.mark.django_db(transaction=True)

# SQLite publishes with more statements than PostgreSQL.
PUBLICATION = {"postgresql": 6, "sqlite": 6}
# Without the publication of its event.
CASES = {
    "a trigger": ("queued", False, 11),
    "with a key": ("queued", True, 13),
    "while Airflow is down": ("pending", False, 8),
    "with a key while Airflow is down": ("pending", True, 10),
}
ITEM = {"queued": 4, "pending": 1}


def cost(call: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert call().status_code in {200, 201}
    words = [query["sql"].split()[0] for query in captured.captured_queries]
    return sum(word not in {"BEGIN", "COMMIT"} for word in words)


@pytest.fixture
def path(airflow: ControlledAirflow, nightly: Workflow, api: APIClient) -> str:
    """Where to trigger, when all that is read once has been read."""
    assert poll.tick(DEFAULT, now=timezone.now())
    path = f"/api/v1/workflows/{nightly.pk}/runs"
    assert api.post(path, {}).json()["state"] == RunState.QUEUED
    return path


@pytest.mark.parametrize("case", CASES)
def test_a_trigger_costs_no_more_queries_than_this(path: str, api: APIClient, case: str) -> None:
    state, with_key, most = CASES[case]
    Airflow.objects.update(reachable=state == "queued")
    headers = {"Idempotency-Key": "k"} if with_key else {}

    def trigger() -> Any:
        answer = api.post(path, {"parameters": {"rows": 7}, "task_id": "t"}, headers=headers)
        assert answer.json()["state"] == state
        return answer

    assert cost(trigger) <= most + PUBLICATION[connection.vendor]


@pytest.mark.parametrize("state", ITEM)
def test_an_item_of_a_batch_costs_no_more_queries_than_this(path: str, api: APIClient, state: str) -> None:
    Airflow.objects.update(reachable=state == "queued")

    def batch(size: int) -> Any:
        headers = {"Idempotency-Key": f"of {size}"}
        answer = api.post(f"{path}/batch", {"items": [{"task_id": n} for n in range(size)]}, headers=headers)
        assert {result["run"]["state"] for result in answer.json()["results"]} == {state}
        return answer

    few, many = cost(lambda: batch(5)), cost(lambda: batch(25))

    assert (many - few) / 20 <= ITEM[state]
