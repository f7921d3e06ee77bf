"""Each operation of the client against the real platform."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, TypedDict

import pytest
from django.utils import timezone

from accounts.models import User
from clients.python.tests.conftest import LosesAnswers, new_run
from svops_client import (
    AmbiguousNameError,
    AsyncClient,
    AuthenticationError,
    Client,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    RunEndedBadlyError,
    RunInfo,
    TransportError,
)
from tests.control.staged import ControlledAirflow
from tests.live.parts import Web
from workflows.models import Run, RunResult, TaskInstance, Workflow
from workflows.states import RunState


@pytest.fixture
def lossy(web: Web, api_key: str) -> Iterator[tuple[Client, LosesAnswers]]:
    """A client and its way to the platform, which can lose answers."""
    way = LosesAnswers()
    with Client(web.url, api_key=api_key, transport=way) as client:
        yield client, way


class EtlParameters(TypedDict, total=False):
    rows: int
    mode: str


def test_a_trigger_returns_the_run_with_its_parameters_and_references(
    svops: Client, nightly: Workflow, airflow: ControlledAirflow
) -> None:
    run = svops.workflow("Nightly").trigger(rows=5, task_id=4711, dataset_id="customers", note="for support")

    assert run.info.parameters == {"rows": 5}
    assert (run.info.task_id, run.info.dataset_id, run.info.note) == (4711, "customers", "for support")
    assert (run.state, run.workflow_id, run.info.username) == ("queued", nightly.pk, "ada")
    assert ("etl", run.info.dag_run_id) in airflow.runs
    assert run.info.created_at == Run.objects.get(pk=run.id).created_at


def test_parameters_may_be_a_typed_mapping(svops: Client, nightly: Workflow) -> None:
    run = svops.workflow(nightly.pk).trigger(EtlParameters(rows=7, mode="slow"))

    assert run.info.parameters == {"rows": 7, "mode": "slow"}


def test_a_trigger_whose_answer_is_lost_makes_one_run(lossy: tuple[Client, LosesAnswers], nightly: Workflow) -> None:
    client, way = lossy
    before = Run.objects.count()
    way.next_answers = 2

    run = client.workflow(nightly.pk).trigger(rows=3)

    keys = {request.headers["Idempotency-Key"] for request in way.sent if request.method == "POST"}
    assert (len(way.sent), len(keys)) == (3, 1)
    assert (Run.objects.count(), str(Run.objects.latest("created_at").pk)) == (before + 1, run.id)


def test_the_same_key_of_your_own_returns_the_same_run(svops: Client, nightly: Workflow) -> None:
    first, second = (svops.workflow(nightly.pk).trigger(rows=4, idempotency_key="order-1") for _ in range(2))

    assert first.id == second.id


def test_wrong_parameters_are_named_and_nothing_is_started(svops: Client, nightly: Workflow) -> None:
    before = Run.objects.count()

    with pytest.raises(InvalidRequestError) as refused:
        svops.workflow(nightly.pk).trigger(rows=-5)

    assert refused.value.code == "invalid"
    assert refused.value.errors == {"parameters.rows": ["-5 is less than the minimum of 1"]}
    assert refused.value.request_id
    assert "parameters.rows: -5 is less than the minimum of 1" in str(refused.value)
    assert Run.objects.count() == before


def test_validation_returns_the_parameters_with_the_defaults(svops: Client, nightly: Workflow) -> None:
    assert svops.workflow(nightly.pk).validate(mode="slow") == {"rows": 10, "mode": "slow"}


def test_a_wrong_key_is_refused_at_once(web: Web) -> None:
    with Client(web.url, api_key="svops_000000000000_nonsense") as client, pytest.raises(AuthenticationError):
        client.me()


def test_a_function_gives_another_token_when_one_is_refused(web: Web, api_key: str) -> None:
    tokens = iter(["svops_000000000000_old", api_key])

    with Client(web.url, token=lambda: next(tokens)) as client:
        assert client.me().username == "ada"


def test_a_name_that_two_workflows_have_is_ambiguous_and_an_unknown_one_not_found(
    svops: Client, nightly: Workflow
) -> None:
    for owner in (nightly.owner, User.objects.create_user("bob")):
        Workflow.objects.create(name="Twice", dag=nightly.dag, owner=owner)

    with pytest.raises(AmbiguousNameError, match="2 workflows are called 'Twice'"):
        svops.workflow("Twice").info()
    with pytest.raises(NotFoundError):
        svops.workflow("Night").info()


def test_lists_are_read_page_by_page_as_they_are_iterated(
    lossy: tuple[Client, LosesAnswers], nightly: Workflow
) -> None:
    client, way = lossy
    runs = [str(new_run(nightly).pk) for _ in range(5)]

    found = client.runs(workflow=nightly.pk, page_size=2)
    first_three = [next(found).id for _ in range(3)]

    assert first_three == runs[:1:-1]
    assert len(way.sent) == 2
    assert [one.name for one in client.workflows(page_size=1, search="nightly")] == ["Nightly"]


def test_a_stop_whose_answer_is_lost_is_not_sent_twice(
    lossy: tuple[Client, LosesAnswers], nightly: Workflow, airflow: ControlledAirflow
) -> None:
    client, way = lossy
    run = client.workflow(nightly.pk).trigger(rows=1)
    way.next_answers = 1

    stopped = run.stop(note="wrong data")

    assert stopped.state in {"stopping", "stopped"}
    assert [request.url.path.rpartition("/")[2] for request in way.sent if request.method == "POST"] == [
        "runs",
        "control",
    ]
    assert [run_id for run_id, _ in airflow.marked].count(run.info.dag_run_id) >= 1


def test_an_action_that_does_not_fit_the_state_tells_the_state(svops: Client, run: Run) -> None:
    with pytest.raises(ConflictError) as refused:
        svops.run(str(run.pk), workflow_id=run.workflow_id).retry()

    assert (refused.value.code, refused.value.state) == ("wrong_state", "queued")


def test_a_failed_run_is_explained_and_its_success_can_be_required(svops: Client, run: Run) -> None:
    ended = timezone.now()
    Run.objects.filter(pk=run.pk).update(state=RunState.FAILED, state_reason="load failed", ended_at=ended)
    failed = svops.run(str(run.pk), workflow_id=run.workflow_id)

    assert failed.explain().state == "failed"
    assert failed.explain().reasons
    with pytest.raises(RunEndedBadlyError, match="load failed"):
        failed.require_success()


def test_the_result_is_what_the_result_task_has_returned(svops: Client, run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(state=RunState.SUCCESS, ended_at=timezone.now())
    RunResult.objects.create(run=run, attempt=1, state="ready", task_id="load", value={"rows": 12}, size=11)

    result = svops.run(str(run.pk), workflow_id=run.workflow_id).result(timeout=20)

    assert (result.state, result.task_id, result.value) == ("ready", "load", {"rows": 12})


def _with_a_log(run: Run, airflow: ControlledAirflow, *texts: str, state: str = "success") -> None:
    now = timezone.now()
    ended = now if state == "success" else None
    airflow.put_task(run, "load", state)
    airflow.tasks["etl", run.dag_run_id, "load", -1] |= {
        "start_date": now.isoformat(),
        "end_date": ended and str(ended),
    }
    airflow.put_log(run, "load", *texts)
    TaskInstance.objects.create(run=run, task_id="load", state=state, try_number=1, started_at=now, ended_at=ended)


def test_logs_of_one_task_and_of_all_tasks_are_read(svops: Client, run: Run, airflow: ControlledAirflow) -> None:
    _with_a_log(run, airflow, "one", "two", "three")
    Run.objects.filter(pk=run.pk).update(state=RunState.SUCCESS)
    client_run = svops.run(str(run.pk), workflow_id=run.workflow_id)

    of_task = list(client_run.logs("load"))
    of_all = list(client_run.logs())

    assert [line.text for line in of_task] == ["one", "two", "three"]
    assert of_all == of_task
    assert (of_task[0].task_id, of_task[0].try_number, of_task[0].level) == ("load", 1, "info")
    assert [line.text for line in client_run.logs("load", tail=1)] == ["three"]
    assert [task.name for task in client_run.tasks()] == ["load"]


def test_a_ticket_opens_its_run_and_nothing_else(svops: Client, web: Web, run: Run) -> None:
    ticket = svops.run(str(run.pk), workflow_id=run.workflow_id).ticket("view")

    with Client(web.url, ticket=ticket.ticket) as visitor:
        assert visitor.run(str(run.pk), workflow_id=run.workflow_id).state == "queued"
        with pytest.raises(Exception, match="This ticket does not allow that"):
            list(visitor.workflows())


def test_the_async_client_has_the_same_methods(web: Web, api_key: str, nightly: Workflow) -> None:
    async def use() -> tuple[RunInfo, list[str], str]:
        async with AsyncClient(web.url, api_key=api_key) as svops:
            run = await svops.workflow("Nightly").trigger(rows=2)
            found = [one.id async for one in svops.runs(workflow=nightly.pk)]
            await run.stop()
            return (await svops.run(run.id)).info, found, run.state

    info, found, state = asyncio.run(use())

    assert info.parameters == {"rows": 2}
    assert found[0] == info.id
    assert state in {"stopping", "stopped"}
    assert _public(AsyncClient) == _public(Client)


def _public(kind: type[Any]) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_a_platform_that_is_not_there_is_named_after_the_time_for_retries(unused_tcp_port: int) -> None:
    client = Client(f"http://127.0.0.1:{unused_tcp_port}", api_key="x", retry_for=0.3)

    with client, pytest.raises(TransportError) as lost:
        client.me()

    assert not lost.value.was_sent


def test_two_kinds_of_credentials_are_refused() -> None:
    with pytest.raises(ValueError, match="Expected one of api_key, token, ticket and username, not api_key and ticket"):
        Client("http://127.0.0.1:8000", api_key="a", ticket="b")
