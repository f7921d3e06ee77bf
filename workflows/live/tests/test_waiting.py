"""Requests that wait for the end of a run: through the whole ASGI application."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import pytest_asyncio
from asgiref.testing import ApplicationCommunicator
from django.db import transaction
from pytest_django import Settings

from accounts.models import User
from rest import stopping
from svops.asgi import application
from workflows.conftest import token_of
from workflows.lifecycle import moves, results
from workflows.lifecycle.results import Found
from workflows.live import shares
from workflows.live.hub import running_hub
from workflows.live.tests.sockets import PATIENCE, Socket, in_thread
from workflows.models import ResultState, Run, Workflow
from workflows.states import RunState
from workflows.tests.stage import NOW, StagedAirflow

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.asyncio]


class Answer:
    def __init__(self, start: dict[str, Any], body: bytes) -> None:
        self.status: int = start["status"]
        self.headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        self.body: Any = json.loads(body)
        self.size = len(body)


class Request:
    """A request over the ASGI application. `gone` is what a client does that closes its connection."""

    def __init__(self, method: str, path: str, token: str, body: Any = None, **headers: str) -> None:
        sent = {"host": "localhost", "authorization": f"Bearer {token}", **headers}
        path, _, query = path.partition("?")
        raw = b"" if body is None else json.dumps(body).encode()
        if body is not None:
            sent |= {"content-type": "application/json", "content-length": str(len(raw))}
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
            "client": ("127.0.0.1", 1),
            "scheme": "http",
        }
        self._wire = ApplicationCommunicator(application, scope)  # type: ignore[no-untyped-call]
        self._body = raw

    async def send(self) -> None:
        await self._wire.send_input({"type": "http.request", "body": self._body, "more_body": False})  # type: ignore[no-untyped-call]

    async def gone(self) -> None:
        await self._wire.send_input({"type": "http.disconnect"})  # type: ignore[no-untyped-call]
        await self._wire.wait(PATIENCE)  # type: ignore[no-untyped-call]

    async def answer(self) -> Answer:
        start = await self._wire.receive_output(PATIENCE)  # type: ignore[no-untyped-call]
        body = b""
        while True:
            message = await self._wire.receive_output(PATIENCE)  # type: ignore[no-untyped-call]
            body += message.get("body", b"")
            if not message.get("more_body"):
                # Django closes its connection to the database after the answer.
                await self._wire.wait(PATIENCE)  # type: ignore[no-untyped-call]
                return Answer(start, body)

    async def is_silent(self) -> bool:
        return bool(await self._wire.receive_nothing(0.3, 0.05))  # type: ignore[no-untyped-call]


Ask = Callable[..., Coroutine[Any, Any, Request]]


@pytest_asyncio.fixture
async def ask(sockets: list[Socket], ada: User, settings: Settings) -> Ask:
    """Send a request as ada."""
    settings.WAIT_MAX = 60
    token = await in_thread(token_of)(ada)

    async def sent(method: str, path: str, body: Any = None, **headers: str) -> Request:
        request = Request(method, path, token, body, **headers)
        await request.send()
        return request

    return sent


def path_of(run: Run) -> str:
    return f"/api/v1/workflows/{run.workflow_id}/runs/{run.pk}"


@in_thread
def end(run: Run, state: RunState = RunState.SUCCESS, result: Found | None = None) -> None:
    """End the run; with a result, or `pending` if its workflow names a task."""
    with transaction.atomic():
        assert moves.move(run, to=RunState.RUNNING, started_at=NOW)
        assert moves.move(run, to=state, ended_at=NOW)
        if run.workflow.result_task:
            results.save([results.row(run, run.workflow.result_task, result, now=NOW)])
        moves.record_end(run, failed_tasks=[], now=NOW)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - nothing says when
            await asyncio.sleep(0.01)


async def waiting(count: int) -> None:
    """Wait until so many requests have joined the hub."""
    hub = await running_hub()
    await until(lambda: sum(len(group.clients) for group in hub._groups.values()) == count)


async def test_a_wait_is_answered_when_the_run_ends(ask: Ask, run: Run) -> None:
    request = await ask("GET", f"{path_of(run)}/wait?timeout=30")
    await waiting(1)

    await end(run)
    answer = await request.answer()

    assert (answer.status, answer.body["id"], answer.body["state"]) == (200, str(run.pk), "success")
    assert answer.headers["content-length"] == str(answer.size)
    await waiting(0)


async def test_a_wait_for_a_run_that_has_ended_is_answered_at_once(ask: Ask, run: Run) -> None:
    await end(run, RunState.FAILED)

    answer = await (await ask("GET", f"{path_of(run)}/wait")).answer()

    assert (answer.status, answer.body["state"]) == (200, "failed")
    assert answer.body["result"]["state"] == "none"


async def test_a_wait_ends_with_its_time(ask: Ask, run: Run) -> None:
    answer = await (await ask("GET", f"{path_of(run)}/wait?timeout=1")).answer()

    assert (answer.status, answer.body["state"], answer.headers["location"]) == (202, "queued", path_of(run))
    await waiting(0)


async def test_no_wait_is_longer_than_the_longest(ask: Ask, run: Run, settings: Settings) -> None:
    settings.WAIT_MAX = 1

    assert (await (await ask("GET", f"{path_of(run)}/wait?timeout=500")).answer()).status == 202


@pytest.mark.parametrize("wrong", ["soon", "-1", "1.5", "99999999"])
async def test_a_time_that_is_none_is_refused(ask: Ask, run: Run, wrong: str) -> None:
    answer = await (await ask("GET", f"{path_of(run)}/wait?timeout={wrong}")).answer()

    assert (answer.status, list(answer.body["errors"])) == (400, ["timeout"])


async def test_a_wait_goes_on_until_the_result_is_known(ask: Ask, run: Run, nightly: Workflow) -> None:
    await in_thread(Workflow.objects.update)(result_task="load")
    await in_thread(run.workflow.refresh_from_db)()
    request = await ask("GET", f"{path_of(run)}/wait")
    await waiting(1)

    await end(run)
    assert await request.is_silent()
    known = Found(state=ResultState.READY, value={"rows": 3}, size=10)
    await in_thread(results.settle)(run, attempt=1, known=known, now=NOW)

    answer = await request.answer()
    assert (answer.status, answer.body["result"]["value"]) == (200, {"rows": 3})


async def test_a_client_that_goes_away_ends_its_waiting(ask: Ask, run: Run, ada: User) -> None:
    request = await ask("GET", f"{path_of(run)}/wait")
    await waiting(1)

    await request.gone()

    await waiting(0)
    assert shares.share_of(ada.pk)._streams == 0


async def test_a_wait_is_a_stream_among_those_of_its_user(ask: Ask, run: Run, settings: Settings) -> None:
    settings.STREAMS_PER_USER = 1
    first = await ask("GET", f"{path_of(run)}/wait")
    await waiting(1)

    second = await (await ask("GET", f"{path_of(run)}/wait")).answer()

    assert (second.status, second.body["code"]) == (429, "throttled")
    assert int(second.headers["retry-after"]) > 0
    assert second.body["request_id"] == second.headers["x-request-id"]
    await first.gone()


async def test_rights_that_are_withdrawn_end_a_wait(ask: Ask, run: Run, ada: User, settings: Settings) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    request = await ask("GET", f"{path_of(run)}/wait")
    await waiting(1)

    await in_thread(User.objects.filter(pk=ada.pk).update)(is_active=False)

    assert (await request.answer()).status == 401


async def test_a_process_that_stops_answers_what_waits(ask: Ask, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # Put back afterwards: this process goes on.
    monkeypatch.setattr(stopping._Process, "stops", False)
    request = await ask("GET", f"{path_of(run)}/wait")
    await waiting(1)

    stopping.begin()

    assert (await request.answer()).status == 202


async def test_many_who_wait_hold_no_thread_and_are_all_answered(ask: Ask, run: Run, settings: Settings) -> None:
    settings.STREAMS_PER_USER = 1000
    requests: list[Request] = []
    threads = []
    for _ in range(3):
        requests += [await ask("GET", f"{path_of(run)}/wait") for _ in range(40)]
        await waiting(len(requests))
        threads.append(threading.active_count())

    await end(run)

    answers = await asyncio.gather(*(request.answer() for request in requests))
    assert {(answer.status, answer.body["state"]) for answer in answers} == {(200, "success")}
    # The threads of the lanes, and those of the requests that have not all ended yet.
    assert threads[-1] - threads[0] < 40


# --- Triggers ---------------------------------------------------------------------------------------------------


async def test_a_trigger_that_prefers_to_wait_answers_with_the_ended_run(
    ask: Ask, airflow: StagedAirflow, nightly: Workflow
) -> None:
    path = f"/api/v1/workflows/{nightly.pk}/runs"
    request = await ask("POST", path, {}, prefer="respond-async, Wait=30")
    await waiting(1)
    run = await in_thread(Run.objects.select_related("workflow").get)()

    await end(run)
    answer = await request.answer()

    assert (answer.status, answer.body["id"], answer.body["state"]) == (200, str(run.pk), "success")
    assert answer.headers["preference-applied"] == "wait=30"


async def test_a_trigger_whose_run_goes_on_says_where_to_look(
    ask: Ask, airflow: StagedAirflow, nightly: Workflow
) -> None:
    path = f"/api/v1/workflows/{nightly.pk}/runs"

    answer = await (await ask("POST", path, {}, prefer="wait=1")).answer()

    run = await in_thread(Run.objects.get)()
    assert (answer.status, answer.body["state"]) == (202, "queued")
    assert (answer.headers["location"], answer.headers["preference-applied"]) == (f"{path}/{run.pk}", "wait=1")


async def test_a_trigger_that_may_not_wait_is_accepted_all_the_same(
    ask: Ask, airflow: StagedAirflow, nightly: Workflow, settings: Settings
) -> None:
    settings.STREAMS_PER_USER = 0

    answer = await (await ask("POST", f"/api/v1/workflows/{nightly.pk}/runs", {}, prefer="wait=30")).answer()

    assert (answer.status, answer.body["state"]) == (201, "queued")
    assert "preference-applied" not in answer.headers


@pytest.mark.parametrize("prefer", ["wait=soon", "return=minimal", "wait", "waiting=3"])
async def test_another_preference_is_ignored(ask: Ask, airflow: StagedAirflow, nightly: Workflow, prefer: str) -> None:
    answer = await (await ask("POST", f"/api/v1/workflows/{nightly.pk}/runs", {}, prefer=prefer)).answer()

    assert answer.status == 201
    assert "preference-applied" not in answer.headers


async def test_a_trigger_that_is_refused_does_not_wait(ask: Ask, airflow: StagedAirflow, nightly: Workflow) -> None:
    body = {"parameters": {"rows": 0}}

    answer = await (await ask("POST", f"/api/v1/workflows/{nightly.pk}/runs", body, prefer="wait=30")).answer()

    assert (answer.status, await in_thread(Run.objects.count)()) == (400, 0)
