"""How many rows PostgreSQL reads for a page of a list, beside thousands that are none of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from workflows.api import run_pages
from workflows.api.tests.asking import V1
from workflows.conftest import bearer, token_of
from workflows.models import Dag, Event, Grant, LogHead, Run, Visibility, Workflow
from workflows.watch import pauses

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]

RUNS, WORKFLOWS = 20_000, 400
# A page has 50 rows, and is read with the tables beside it.
FEW = 200
MAKE_RUNS = """
    INSERT INTO workflows_run (id, workflow_id, dag_id, dag_run_id, state, state_reason, paused, trigger_type, user_id,
        task_id, dataset_id, parameters, note, attempt, event_count, created_at)
    SELECT gen_random_uuid(), %(first)s + n %% %(workflows)s, 'etl', 'svops__' || md5(n::text),
        CASE WHEN n %% 5000 = 1 THEN 'stopped' WHEN n %% 50 = 2 THEN 'failed' ELSE 'success' END, '', n %% 9000 = 3,
        CASE WHEN n %% 7000 = 4 THEN 'external' ELSE 'api' END, %(user)s, to_jsonb(n), to_jsonb('set ' || n), '{}',
        CASE WHEN n %% 6000 = 5 THEN 'a needle' ELSE 'nightly load' END, 1, 1,
        '2026-01-01T00:00:00Z'::timestamptz + make_interval(secs => n)
    FROM generate_series(0, %(runs)s - 1) n
"""
MAKE_TASKS = """
    INSERT INTO workflows_taskinstance (run_id, task_id, map_index, state, try_number, max_tries, operator, instance_id,
        receipt_try, start_recorded, end_recorded, recorded_from)
    SELECT id, 'load', -1, 'success', 1, 0, '', '', 0, true, '', 0 FROM workflows_run
"""


@pytest.fixture
def workflows(etl: Dag, ada: User) -> list[Workflow]:
    """Private workflows of ada, with runs that come in turns."""
    if connection.vendor != "postgresql":
        pytest.skip("needs PostgreSQL")
    made = Workflow.objects.bulk_create(
        Workflow(name=f"w{n}", dag=etl, owner=ada, visibility=Visibility.PRIVATE) for n in range(WORKFLOWS)
    )
    numbers = {"first": made[0].pk, "workflows": WORKFLOWS, "runs": RUNS, "user": ada.pk}
    with connection.cursor() as cursor:
        cursor.execute(MAKE_RUNS, numbers)
        # New rows wait in a list of the search's index, which each search would read whole.
        cursor.execute("SELECT gin_clean_pending_list('run_search')")
        cursor.execute("ANALYZE workflows_run, workflows_workflow")
        # So few rows could as well be read whole. With millions, the index is always cheaper.
        cursor.execute("SET LOCAL random_page_cost = 1")
        cursor.execute("SET LOCAL seq_page_cost = 20")
    return made


def rows_read(sql: str, table: str) -> int:
    """Run the query and return how many rows of the table the database has read for it."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
        told = cursor.fetchone()[0]
    [plan] = json.loads(told) if isinstance(told, str) else told
    return int(sum(_read(node) for node in _nodes(plan["Plan"]) if node.get("Relation Name") == table))


def as_text(rows: QuerySet[Any]) -> str:
    with CaptureQueriesContext(connection) as captured:
        list(rows)
    return str(captured[0]["sql"])


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _read(node: dict[str, Any]) -> float:
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float((node["Actual Rows"] + removed) * node["Actual Loops"])


def read_for(user: User, path: str, *, table: str = "workflows_run") -> tuple[int, int]:
    """Return how many rows of the table are read to answer, and how many are shown."""
    client = bearer(token_of(user))
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(f"{V1}/{path}")
    assert answer.status_code == 200, answer.json()
    asked = [query["sql"] for query in captured if query["sql"].startswith("SELECT") and table in query["sql"]]
    return sum(rows_read(sql, table) for sql in asked), len(answer.json()["results"])


# What an admin asks for, and how many runs the page then shows.
SHOWN = {
    "": 50,
    "state=failed": 50,
    "state=stopped": 4,
    "state=stopping": 0,
    "paused=true": 3,
    "trigger_type=external": 3,
    "task_id=7777": 1,
    "dataset_id=set+7777": 1,
    "dataset_id=nothing": 0,
    "search=needle": 4,
    "search=no+such+word": 0,
    "search=nightly&state=stopped": 4,
    "workflow={workflow}": 50,
    "workflow={workflow}&state=stopped": 0,
}


def test_an_admin_gets_a_page_for_few_rows(root: User, workflows: list[Workflow]) -> None:
    # The data takes seconds, so all questions are asked of the same.
    asked = {query: read_for(root, f"runs?{query.format(workflow=workflows[7].pk)}") for query in SHOWN}

    assert {query: found for query, (_, found) in asked.items()} == SHOWN
    assert {query: read for query, (read, _) in asked.items() if read > FEW} == {}


@pytest.mark.parametrize("grants", [0, 1, 20, 200])
def test_rights_on_some_of_many_workflows_are_read_per_workflow_and_not_per_run(
    eve: User, workflows: list[Workflow], monkeypatch: pytest.MonkeyPatch, grants: int
) -> None:
    monkeypatch.setattr(run_pages, "NEWEST", FEW)
    Grant.objects.bulk_create(Grant(workflow=workflow, user=eve) for workflow in workflows[:grants])
    with connection.cursor() as cursor:
        # Otherwise the plan depends on when PostgreSQL's own vacuum has last come by.
        cursor.execute("ANALYZE")

    queries = ("", "state=failed", "state=stopped", "created_before=2026-01-01T03:00:00Z")
    asked = {query: read_for(eve, f"runs?{query}")[0] for query in queries}

    # The newest of all, twice; the first run of each workflow, twice; a page of runs of as many workflows.
    most = 2 * FEW + 2 * grants + 51 * 51
    assert {query: read for query, read in asked.items() if read > most} == {}


def test_a_workflow_that_the_caller_may_not_see_costs_no_row(eve: User, workflows: list[Workflow]) -> None:
    assert read_for(eve, f"runs?workflow={workflows[7].pk}") == (0, 0)


def test_a_rare_type_of_event_is_found_by_an_index(root: User, nightly: Workflow) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("needs PostgreSQL")
    Event.objects.bulk_create(
        Event(
            position=n, workflow=nightly, timestamp="2026-01-01T00:00:00Z",
            type="workflow.stopped" if n % 3000 == 1 else "task.started",
        )
        for n in range(1, 10_001)
    )  # fmt: skip
    LogHead.objects.update_or_create(pk=1, defaults={"position": 10_000})
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE workflows_event")

    assert read_for(root, "events?after=0&type=workflow.stopped", table="workflows_event") == (4, 4)
    assert read_for(root, "events?after=0&type=workflow.failed", table="workflows_event") == (0, 0)


def test_whether_a_dag_was_paused_since_is_read_of_its_events_alone(etl: Dag, nightly: Workflow) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("needs PostgreSQL")
    now = timezone.now()
    events = (Event(position=n, workflow=nightly, timestamp=now, type="task.started") for n in range(1, 10_001))
    Event.objects.bulk_create(
        [*events, Event(position=0, dag=etl, timestamp=now, type="dag.synced", data={"changed": []})]
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE workflows_event")

    with CaptureQueriesContext(connection) as captured:
        assert not pauses.is_outdated(etl, at=now - timedelta(seconds=1))

    asked = [query["sql"] for query in captured if "workflows_event" in query["sql"]]
    assert [rows_read(sql, "workflows_event") for sql in asked] == [1]


def test_whether_tasks_are_at_work_is_read_of_paused_runs_alone(workflows: list[Workflow]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(MAKE_TASKS)
        cursor.execute("ANALYZE workflows_taskinstance")
    newest = Run.objects.with_work().select_related("workflow", "user").order_by("-created_at", "-id")[:51]

    assert rows_read(as_text(newest), "workflows_taskinstance") == 0
