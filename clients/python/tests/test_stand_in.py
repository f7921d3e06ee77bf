"""The stand-in for users' own tests: the real client, a platform in memory."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from django.utils import timezone

from svops_client import ConflictError, InvalidRequestError, NotFoundError, UnavailableError, WaitTimeoutError
from svops_client.events import TaskFailed, WorkflowCompleted
from svops_client.pytest_plugin import svops_stand_in
from svops_client.testing import StandIn
from tests.live import log
from tests.live.parts import Web
from workflows.models import Run, TaskInstance

__all__ = ["svops_stand_in"]


def test_a_run_goes_the_way_of_its_script(svops_stand_in: StandIn) -> None:
    svops_stand_in.workflow("Report", tasks=["extract", "load"]).completes({"rows": 12})

    run = svops_stand_in.client.workflow("Report").trigger(day="monday", task_id=4711)

    assert run.state == "queued"
    assert [(event.type, event.task) for event in run.follow()] == [
        ("workflow.triggered", ""),
        ("workflow.started", ""),
        ("task.started", "extract"),
        ("task.completed", "extract"),
        ("task.started", "load"),
        ("task.completed", "load"),
        ("workflow.completed", ""),
    ]
    assert run.result().value == {"rows": 12}
    [triggered] = svops_stand_in.triggered
    assert (triggered["parameters"], triggered["task_id"]) == ({"day": "monday"}, 4711)


def test_a_failure_has_its_task_its_log_and_its_reason(svops_stand_in: StandIn) -> None:
    report = svops_stand_in.workflow("Report", tasks=["extract", "load"]).fails("extract", "no rows")
    report.logs_as("extract", "reading", "ValueError: no rows")

    run = svops_stand_in.client.workflow("Report").trigger().wait()

    assert (run.state, run.info.state_reason, str(run.explain())) == ("failed", "no rows", "no rows")
    assert [task.name for task in run.tasks()] == ["extract"]
    assert [line.text for line in run.logs()] == ["reading", "ValueError: no rows"]
    assert [line.text for line in run.logs("extract", tail=1, follow=True)] == ["ValueError: no rows"]
    assert any(isinstance(event, TaskFailed) for event in run.follow())


def test_a_run_that_hangs_ends_when_the_test_says_so(svops_stand_in: StandIn) -> None:
    svops_stand_in.workflow("Report").hangs()
    run = svops_stand_in.client.workflow("Report").trigger()

    with pytest.raises(WaitTimeoutError):
        run.wait(timeout=0.05)
    svops_stand_in.finish(run.id, result=7)

    assert run.wait(timeout=5).state == "success"
    assert isinstance(list(run.follow())[-1], WorkflowCompleted)
    assert run.result().value == 7


def test_a_retry_follows_the_script_that_holds_then(svops_stand_in: StandIn) -> None:
    report = svops_stand_in.workflow("Report").fails()
    run = svops_stand_in.client.workflow("Report").trigger().wait()
    report.completes()

    run.retry()

    assert (run.wait().state, run.info.attempt) == ("success", 2)
    with pytest.raises(ConflictError) as refused:
        run.stop()
    assert refused.value.state == "success"


def test_a_stop_and_a_repeat_with_the_same_key(svops_stand_in: StandIn) -> None:
    svops_stand_in.workflow("Report").hangs()
    workflow = svops_stand_in.client.workflow("Report")

    first, second = (workflow.trigger(idempotency_key="order-1") for _ in range(2))

    assert first.id == second.id
    assert first.stop(note="enough").state == "stopped"
    assert [run.state for run in svops_stand_in.client.runs(state=["stopped"])] == ["stopped"]


def test_refusals_are_those_of_the_platform(svops_stand_in: StandIn) -> None:
    svops_stand_in.workflow("Report", schema={"properties": {"day": {"type": "string"}}, "required": ["day"]})
    workflow = svops_stand_in.client.workflow("Report")

    with pytest.raises(InvalidRequestError) as refused:
        workflow.trigger()
    assert refused.value.errors == {"parameters.day": ["is required"]}
    svops_stand_in.refuse_next(503, "upstream_unavailable")
    with pytest.raises(UnavailableError):
        svops_stand_in.client.me()
    with pytest.raises(NotFoundError):
        svops_stand_in.client.workflow("Nothing").info()
    assert svops_stand_in.triggered == []


def test_the_async_client_asks_the_same_platform(svops_stand_in: StandIn) -> None:
    svops_stand_in.workflow("Report").completes()

    async def use() -> list[str]:
        async with svops_stand_in.async_client as svops:
            run = await svops.workflow("Report").trigger()
            return [event.type async for event in run.follow()]

    assert asyncio.run(use())[-1] == "workflow.completed"


def test_its_answers_have_the_fields_of_the_platform(svops_stand_in: StandIn, web: Web, api_key: str, run: Run) -> None:
    svops_stand_in.workflow("Report").completes()
    stand_in = svops_stand_in.client.workflow("Report").trigger()
    TaskInstance.objects.create(run=run, task_id="load", state="success", try_number=1, started_at=timezone.now())
    log.append(run, 1)

    def fields_of(client: httpx.Client, path: str) -> set[str]:
        body = json.loads(client.get(f"/api/v1/{path}").content)
        return set((body["results"][0] if "results" in body else body).keys())

    headers = {"Authorization": f"Bearer {api_key}"}
    with (
        httpx.Client(base_url=web.url, headers=headers) as real,
        httpx.Client(base_url="http://svops", transport=httpx.MockTransport(svops_stand_in._answer)) as double,
    ):
        for end in ("", "/tasks", "/events"):
            there = fields_of(real, f"workflows/{run.workflow_id}/runs/{run.pk}{end}")
            assert fields_of(double, f"workflows/1/runs/{stand_in.id}{end}") == there
        assert fields_of(double, "workflows/1") == fields_of(real, f"workflows/{run.workflow_id}")
