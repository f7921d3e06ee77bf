"""Logs of tasks over the API: pages, cursors, refusals, and the stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.models import User
from workflows.api import log_stream
from workflows.conftest import bearer, token_of
from workflows.models import Run, Workflow
from workflows.states import RunState
from workflows.task_logs import copies
from workflows.tests.stage import StagedAirflow, new_run, story

Ask = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "PAUSE_PER_READING", 0)
    monkeypatch.setattr(log_stream, "PAUSE", 0.01)


@pytest.fixture
def run(nightly: Workflow) -> Run:
    return new_run(nightly, RunState.RUNNING)


@pytest.fixture
def ask(ada: User, run: Run) -> Ask:
    client = bearer(token_of(ada))

    def get(task_id: str = "load", **params: Any) -> Any:
        return client.get(url_of(run, task_id), params)

    return get


def url_of(run: Run, task_id: str = "load") -> str:
    return f"/api/v1/workflows/{run.workflow_id}/runs/{run.pk}/tasks/{task_id}/logs"


def put_task(airflow: StagedAirflow, run: Run, state: str | None, *, tries: int = 1, index: int = -1) -> None:
    """Let Airflow have the task `load`, in this state since now."""
    airflow.put_task(run, "load", state, tries=tries, index=index)
    if state in {"success", "failed"}:
        airflow.tasks[run.dag_id, run.dag_run_id, "load", index]["end_date"] = timezone.now().isoformat()


def texts(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.json()
    return [line["text"] for line in answer.json()["lines"]]


def test_the_answer_is_the_log_of_the_newest_attempt(airflow: StagedAirflow, run: Run, ask: Ask) -> None:
    put_task(airflow, run, "running", tries=2)
    airflow.put_log(run, "load", "one", "two", tries=2)

    body = ask().json()

    assert body.pop("cursor")
    assert body == {
        "task_id": "load",
        "map_index": -1,
        "try_number": 2,
        "state": "running",
        "lines": [
            {"timestamp": None, "level": "info", "text": "one", "is_cut": False},
            {"timestamp": None, "level": "info", "text": "two", "is_cut": False},
        ],
        "has_more": False,
        "ended": False,
    }


def test_the_logs_of_a_run_that_was_deleted_in_airflow_are_a_conflict_with_that_reason(
    airflow: StagedAirflow, nightly: Workflow, ada: User
) -> None:
    run = new_run(nightly, RunState.SUCCESS)
    client = bearer(token_of(ada))

    answers = [client.get(url_of(run)) for _ in range(2)]

    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
        assert answer.json()["detail"] == "The run was deleted in Airflow, with its logs."
    assert story(run) == ["workflow.external_change deleted"]
    run.refresh_from_db()
    assert run.state == "success"


def test_a_cursor_continues_after_its_answer(airflow: StagedAirflow, run: Run, ask: Ask) -> None:
    put_task(airflow, run, "running")
    airflow.put_log(run, "load", "one", "two", "three")
    first = ask(limit=2).json()
    second = ask(cursor=first["cursor"])
    airflow.put_log(run, "load", "one", "two", "three", "four")

    third = ask(cursor=second.json()["cursor"])

    assert (first["has_more"], second.json()["has_more"]) == (True, False)
    assert [texts(second), texts(third)] == [["three"], ["four"]]


def test_a_cursor_stays_with_its_attempt(airflow: StagedAirflow, run: Run, ask: Ask) -> None:
    put_task(airflow, run, "running")
    airflow.put_log(run, "load", "one")
    cursor = ask().json()["cursor"]
    put_task(airflow, run, "running", tries=2)
    airflow.put_log(run, "load", "one", "and last")

    answer = ask(cursor=cursor)

    assert texts(answer) == ["and last"]
    assert (answer.json()["try_number"], answer.json()["state"], answer.json()["ended"]) == (1, None, True)
    assert ask(cursor=cursor, try_number=2).json()["errors"] == {"cursor": ["It belongs to attempt 1, not to 2."]}


def test_a_tail_has_the_last_lines_and_a_cursor_after_them(airflow: StagedAirflow, run: Run, ask: Ask) -> None:
    put_task(airflow, run, "running")
    airflow.put_log(run, "load", *map(str, range(100)))
    tail = ask(tail=2)
    airflow.put_log(run, "load", *map(str, range(101)))

    assert texts(tail) == ["98", "99"]
    assert texts(ask(cursor=tail.json()["cursor"])) == ["100"]


def test_a_page_of_long_lines_is_bounded(airflow: StagedAirflow, run: Run, ask: Ask) -> None:
    put_task(airflow, run, "running")
    airflow.put_log(run, "load", *("x" * 200_000 for _ in range(20)))

    page, tail = ask().json(), ask(tail=20).json()

    assert (len(page["lines"]), page["has_more"]) == (5, True)
    assert (len(tail["lines"]), tail["has_more"]) == (5, False)


@pytest.mark.parametrize(
    ("state", "last", "ended"),
    [
        ("running", "working", False),
        ("failed", "working", False),
        ("failed", "Task killed!", True),
        ("success", "::endgroup::", True),
        ("up_for_retry", "::endgroup::", True),
    ],
)
def test_a_log_has_ended_when_the_process_that_wrote_it_is_gone(
    airflow: StagedAirflow, run: Run, ask: Ask, state: str, last: str, ended: bool
) -> None:
    put_task(airflow, run, state)
    airflow.put_log(run, "load", "::group::Post Execute", last)

    assert ask().json()["ended"] is ended


def test_a_log_without_an_exit_proof_ends_some_time_after_its_task(airflow: StagedAirflow, run: Run, ask: Ask) -> None:
    put_task(airflow, run, "failed")
    airflow.put_log(run, "load", "working")
    row = airflow.tasks[run.dag_id, run.dag_run_id, "load", -1]
    row["end_date"] = (timezone.now() - timedelta(seconds=31)).isoformat()

    assert ask().json()["ended"] is True


@pytest.mark.parametrize(("state", "ended"), [(None, False), ("queued", False), ("upstream_failed", True)])
def test_the_log_of_a_task_that_never_began_is_empty_without_a_call_for_it(
    airflow: StagedAirflow, run: Run, ask: Ask, state: str | None, ended: bool
) -> None:
    put_task(airflow, run, state, tries=0)

    body = ask().json()

    assert (body["lines"], body["try_number"], body["ended"]) == ([], 0, ended)


def test_who_asked_before_the_task_started_goes_on_with_its_first_try(
    airflow: StagedAirflow, run: Run, ask: Ask
) -> None:
    put_task(airflow, run, "queued", tries=0)
    before = ask().json()
    put_task(airflow, run, "running")
    airflow.put_log(run, "load", "first words")

    after = ask(cursor=before["cursor"])

    assert (texts(after), after.json()["try_number"], after.json()["ended"]) == (["first words"], 1, False)


def test_a_mapped_task_needs_a_map_index(airflow: StagedAirflow, run: Run, ask: Ask) -> None:
    for index in (0, 1):
        put_task(airflow, run, "running", index=index)
    airflow.put_log(run, "load", "mapped", index=1)

    refused, answered = ask(), ask(map_index=1)

    assert refused.status_code == 404
    assert refused.json()["map_indexes"] == [0, 1]
    assert refused.json()["detail"] == "The task load is mapped: choose an instance with map_index."
    assert (texts(answered), answered.json()["map_index"]) == (["mapped"], 1)


def test_an_unknown_task_or_attempt_is_not_found(airflow: StagedAirflow, run: Run, ask: Ask) -> None:
    put_task(airflow, run, "running")

    answers = [ask("lod"), ask("~"), ask(try_number=2), ask(try_number=1)]

    assert [answer.status_code for answer in answers] == [404] * 4
    assert [answer.json()["detail"] for answer in answers] == [
        "The run has no task lod in Airflow; it has: load.",
        "The run has no task ~ in Airflow; it has: load.",
        "The task load has no attempt 2; the newest is 1.",
        "Airflow has no log of this attempt of the task load.",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [("tail", "0"), ("tail", "x"), ("limit", "10001"), ("map_index", "-2"), ("try_number", "-1"), ("cursor", "x")],
)
def test_a_wrong_parameter_is_named_without_a_call_to_airflow(
    airflow: StagedAirflow, ask: Ask, name: str, value: str
) -> None:
    answer = ask(**{name: value})

    assert (answer.status_code, list(answer.json()["errors"])) == (400, [name])
    assert airflow.requests == []


def test_the_log_of_an_invisible_run_is_not_found(airflow: StagedAirflow, secret: Workflow, eve: User) -> None:
    answers = [bearer(token_of(eve)).get(url_of(new_run(secret))), APIClient().get(url_of(new_run(secret)))]

    assert [answer.status_code for answer in answers] == [404, 401]
    assert airflow.requests == []


def test_a_run_of_another_workflow_is_not_found(nightly: Workflow, secret: Workflow, ada: User) -> None:
    run = new_run(nightly)

    answer = bearer(token_of(ada)).get(url_of(run).replace(f"/{nightly.pk}/", f"/{secret.pk}/"))

    assert answer.status_code == 404


@pytest.mark.usefixtures("no_airflow")
def test_while_airflow_is_down_there_are_no_logs(ask: Ask) -> None:
    answer = ask()

    assert (answer.status_code, answer.json()["code"]) == (503, "upstream_unavailable")


class Stream:
    """Reads server-sent events, each as (event, data)."""

    def __init__(self, answer: Any) -> None:
        self._parts: AsyncIterator[bytes] = aiter(answer.streaming_content)
        self.last_id = ""

    async def next(self) -> tuple[str, Any]:
        fields = dict(line.split(": ", 1) for line in (await anext(self._parts)).decode().strip().splitlines())
        self.last_id = fields["id"]
        return fields["event"], json.loads(fields["data"])

    async def rest(self) -> list[bytes]:
        return [part async for part in self._parts]


async def stream(run: Run, token: str, query: str = "", **headers: str) -> Any:
    url = f"{url_of(run)}/stream{query}"
    return await AsyncClient().get(url, headers={"Authorization": f"Bearer {token}", **headers})


@pytest.mark.django_db(transaction=True)
async def test_a_page_and_the_stream_show_the_same_time_for_a_line(airflow: StagedAirflow, run: Run, ada: User) -> None:
    token = await sync_to_async(token_of)(ada)
    put_task(airflow, run, "failed")
    airflow.put_log(run, "load", "one", "Task killed!")
    for line in airflow.logs[run.dag_id, run.dag_run_id, "load", -1, 1]:
        line["timestamp"] = "2026-03-01T13:00:00.123456+01:00"

    page = await AsyncClient().get(url_of(run), headers={"Authorization": f"Bearer {token}"})
    reader = Stream(await stream(run, token))
    _, first = await reader.next()
    await reader.rest()

    assert {line["timestamp"] for line in page.json()["lines"]} == {"2026-03-01T12:00:00.123456Z"}
    assert first["lines"] == page.json()["lines"]


@pytest.mark.django_db(transaction=True)
async def test_a_log_is_followed_until_its_process_is_gone(airflow: StagedAirflow, run: Run, ada: User) -> None:
    token = await sync_to_async(token_of)(ada)
    put_task(airflow, run, "running")
    airflow.put_log(run, "load", "one")
    reader = Stream(await stream(run, token))

    first = await reader.next()
    airflow.put_log(run, "load", "one", "two")
    second = await reader.next()
    put_task(airflow, run, "failed")
    airflow.put_log(run, "load", "one", "two", "three", "Task killed!")
    third = await reader.next()
    kind, end = await reader.next()

    said = [[line["text"] for line in data["lines"]] for _, data in (first, second, third)]
    assert said == [["one"], ["two"], ["three", "Task killed!"]]
    assert (kind, end["lines"], end["ended"], end["state"]) == ("end", [], True, "failed")
    assert await reader.rest() == []
    assert not log_stream.Follower.following


@pytest.mark.django_db(transaction=True)
async def test_an_event_source_that_reconnects_after_the_end_gets_204(
    airflow: StagedAirflow, run: Run, ada: User
) -> None:
    token = await sync_to_async(token_of)(ada)
    put_task(airflow, run, "failed")
    airflow.put_log(run, "load", "one", "Task killed!")
    reader = Stream(await stream(run, token))
    await reader.next()
    kind, _ = await reader.next()

    answer = await stream(run, token, **{"Last-Event-ID": reader.last_id})

    assert (kind, answer.status_code) == ("end", 204)


@pytest.mark.django_db(transaction=True)
async def test_a_reader_that_is_cut_between_the_last_lines_and_the_end_still_gets_the_end(
    airflow: StagedAirflow, run: Run, ada: User
) -> None:
    token = await sync_to_async(token_of)(ada)
    put_task(airflow, run, "failed")
    airflow.put_log(run, "load", "one", "Task killed!")
    reader = Stream(await stream(run, token))
    _, page = await reader.next()

    again = Stream(await stream(run, token, **{"Last-Event-ID": reader.last_id}))
    frames = [await again.next(), await again.next()]

    assert [line["text"] for line in page["lines"]] == ["one", "Task killed!"]
    assert [(kind, frame["lines"]) for kind, frame in frames] == [("log", []), ("end", [])]


@pytest.mark.django_db(transaction=True)
async def test_a_reader_of_a_tail_that_is_cut_gets_every_line_after_it(
    airflow: StagedAirflow, run: Run, ada: User
) -> None:
    token = await sync_to_async(token_of)(ada)
    put_task(airflow, run, "running")
    airflow.put_log(run, "load", "one", "two", "three")
    reader = Stream(await stream(run, token, "?tail=1"))
    _, tail = await reader.next()
    airflow.put_log(run, "load", "one", "two", "three", "four", "five", "six")

    again = Stream(await stream(run, token, "?tail=1", **{"Last-Event-ID": reader.last_id}))
    _, page = await again.next()

    assert [line["text"] for line in tail["lines"]] == ["three"]
    assert [line["text"] for line in page["lines"]] == ["four", "five", "six"]


@pytest.mark.django_db(transaction=True)
async def test_a_reader_who_loses_access_loses_the_stream(
    airflow: StagedAirflow, secret: Workflow, ada: User, eve: User
) -> None:
    run = await sync_to_async(new_run)(secret)
    put_task(airflow, run, "running")
    airflow.put_log(run, "load", "one")
    reader = Stream(await stream(run, await sync_to_async(token_of)(ada)))
    _, first = await reader.next()
    await Workflow.objects.filter(pk=secret.pk).aupdate(owner=eve)

    kind, error = await reader.next()

    assert (kind, error["code"]) == ("error", "not_found")
    assert reader.last_id == first["cursor"]
    assert await reader.rest() == []


@pytest.mark.django_db(transaction=True)
async def test_a_stream_that_cannot_begin_answers_with_the_reason(
    airflow: StagedAirflow, run: Run, ada: User, settings: Settings
) -> None:
    token = await sync_to_async(token_of)(ada)
    put_task(airflow, run, "running")
    anonymous = await AsyncClient().get(f"{url_of(run)}/stream")
    unknown = await AsyncClient().get(f"{url_of(run, 'lod')}/stream", headers={"Authorization": f"Bearer {token}"})
    settings.LOG_FOLLOWERS = 0
    busy = await stream(run, token)

    answers = [anonymous, unknown, busy]

    assert [answer.status_code for answer in answers] == [401, 404, 503]
    assert [answer.json()["code"] for answer in answers] == ["not_authenticated", "not_found", "busy"]


@pytest.mark.django_db(transaction=True)
async def test_many_readers_at_once_stay_within_the_limit(
    airflow: StagedAirflow, run: Run, ada: User, settings: Settings
) -> None:
    token = await sync_to_async(token_of)(ada)
    settings.LOG_FOLLOWERS = 8
    put_task(airflow, run, "running")
    airflow.put_log(run, "load", "one")

    answers = await asyncio.gather(*(stream(run, token) for _ in range(32)))

    followed = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert (len(followed), len(refused)) == (8, 24)
    assert {answer.json()["code"] for answer in refused} == {"busy"}
    for answer in followed:
        answer.close()
    assert (await stream(run, token)).status_code == 200


@pytest.mark.django_db(transaction=True)
async def test_a_reader_without_a_stream_holds_no_slot(
    airflow: StagedAirflow, run: Run, ada: User, settings: Settings
) -> None:
    token = await sync_to_async(token_of)(ada)
    settings.LOG_FOLLOWERS = 1
    unknown = await stream(run, token)
    put_task(airflow, run, "running")
    airflow.put_log(run, "load", "one")
    gone = asyncio.create_task(stream(run, token))
    while not log_stream.Follower.following:  # noqa: ASYNC110 - until its first page is being read
        await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    unread = await stream(run, token)
    unread.close()  # as Django does when the client is gone before the first byte
    put_task(airflow, run, "failed")
    airflow.put_log(run, "load", "one", "Task killed!")
    reader = Stream(await stream(run, token))
    await reader.next()
    await reader.next()
    await reader.rest()
    resumed = await stream(run, token, **{"Last-Event-ID": reader.last_id})

    assert [answer.status_code for answer in (unknown, unread, resumed)] == [404, 200, 204]
    assert not log_stream.Follower.following
