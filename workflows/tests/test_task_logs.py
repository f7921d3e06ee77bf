"""Logs of tasks over the API: pages, cursors, refusals, and the stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from workflows.api import log_views
from workflows.models import Run, Workflow
from workflows.states import RunState
from workflows.tests.conftest import bearer, token_of
from workflows.tests.stage import StagedAirflow, new_run

Ask = Callable[..., Any]


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
    """One that has just now come into this state."""
    airflow.put_task(run, "load", state, tries=tries, index=index)
    if state in {"success", "failed"}:
        airflow.tasks[run.dag_id, run.dag_run_id, "load", index]["end_date"] = timezone.now().isoformat()


def texts(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.json()
    return [line["text"] for line in answer.json()["lines"]]


def test_the_log_of_the_newest_attempt_is_answered(airflow: StagedAirflow, run: Run, ask: Ask) -> None:
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
            {"timestamp": None, "level": "info", "text": "one"},
            {"timestamp": None, "level": "info", "text": "two"},
        ],
        "has_more": False,
        "ended": False,
    }


def test_a_cursor_goes_on_where_the_answer_ended(airflow: StagedAirflow, run: Run, ask: Ask) -> None:
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
    assert ask(cursor=cursor, try_number=2).json()["errors"] == {"cursor": ["It is of attempt 1, not 2."]}


def test_a_tail_is_the_last_lines_and_goes_on_behind_them(airflow: StagedAirflow, run: Run, ask: Ask) -> None:
    put_task(airflow, run, "running")
    airflow.put_log(run, "load", *map(str, range(100)))
    tail = ask(tail=2)
    airflow.put_log(run, "load", *map(str, range(101)))

    assert texts(tail) == ["98", "99"]
    assert texts(ask(cursor=tail.json()["cursor"])) == ["100"]


def test_a_page_has_an_end_also_where_lines_are_long(airflow: StagedAirflow, run: Run, ask: Ask) -> None:
    put_task(airflow, run, "running")
    airflow.put_log(run, "load", *("x" * 200_000 for _ in range(20)))

    page, tail = ask().json(), ask(tail=20).json()

    assert (len(page["lines"]), page["has_more"]) == (6, True)
    assert (len(tail["lines"]), tail["has_more"]) == (6, False)


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


def test_a_log_without_last_words_has_ended_when_the_task_has_for_long(
    airflow: StagedAirflow, run: Run, ask: Ask
) -> None:
    put_task(airflow, run, "failed")
    airflow.put_log(run, "load", "working")
    row = airflow.tasks[run.dag_id, run.dag_run_id, "load", -1]
    row["end_date"] = (timezone.now() - timedelta(seconds=31)).isoformat()

    assert ask().json()["ended"] is True


@pytest.mark.parametrize(("state", "ended"), [(None, False), ("queued", False), ("upstream_failed", True)])
def test_a_task_that_never_began_has_no_log_and_airflow_is_not_asked_for_one(
    airflow: StagedAirflow, run: Run, ask: Ask, state: str | None, ended: bool
) -> None:
    put_task(airflow, run, state, tries=0)

    body = ask().json()

    assert (body["lines"], body["try_number"], body["ended"]) == ([], 0, ended)


def test_an_instance_of_a_mapped_task_has_to_be_named(airflow: StagedAirflow, run: Run, ask: Ask) -> None:
    for index in (0, 1):
        put_task(airflow, run, "running", index=index)
    airflow.put_log(run, "load", "mapped", index=1)

    refused, answered = ask(), ask(map_index=1)

    assert refused.status_code == 404
    assert refused.json()["map_indexes"] == [0, 1]
    assert refused.json()["detail"] == "The task load has instances of its own: name one by map_index."
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
def test_a_wrong_parameter_is_named_and_airflow_is_not_asked(
    airflow: StagedAirflow, ask: Ask, name: str, value: str
) -> None:
    answer = ask(**{name: value})

    assert (answer.status_code, list(answer.json()["errors"])) == (400, [name])
    assert airflow.requests == []


def test_the_log_of_a_run_that_one_may_not_see_is_not_found(
    airflow: StagedAirflow, secret: Workflow, eve: User
) -> None:
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
    """A reader of server-sent events: (event, data) by turns."""

    def __init__(self, answer: Any) -> None:
        self._parts: AsyncIterator[bytes] = aiter(answer.streaming_content)

    async def next(self) -> tuple[str, Any]:
        fields = dict(line.split(": ", 1) for line in (await anext(self._parts)).decode().strip().splitlines())
        return fields["event"], json.loads(fields["data"])

    async def rest(self) -> list[bytes]:
        return [part async for part in self._parts]


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_views, "SHORTEST_PAUSE", 0.01)


async def stream(run: Run, token: str, **headers: str) -> Any:
    return await AsyncClient().get(f"{url_of(run)}/stream", headers={"Authorization": f"Bearer {token}", **headers})


@pytest.mark.django_db(transaction=True)
async def test_a_page_and_the_stream_tell_the_time_of_a_line_alike(airflow: StagedAirflow, run: Run, ada: User) -> None:
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
@pytest.mark.usefixtures("_quick")
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
    assert log_views.Follower.count == 0


@pytest.mark.django_db(transaction=True)
async def test_an_event_source_that_comes_back_after_the_end_is_sent_away(
    airflow: StagedAirflow, run: Run, ada: User
) -> None:
    token = await sync_to_async(token_of)(ada)
    put_task(airflow, run, "failed")
    airflow.put_log(run, "load", "one", "Task killed!")
    _, page = await Stream(await stream(run, token)).next()

    answer = await stream(run, token, **{"Last-Event-ID": page["cursor"]})

    assert answer.status_code == 204


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_quick")
async def test_a_reader_who_loses_the_right_loses_the_stream(
    airflow: StagedAirflow, secret: Workflow, ada: User, eve: User
) -> None:
    run = await sync_to_async(new_run)(secret)
    put_task(airflow, run, "running")
    airflow.put_log(run, "load", "one")
    reader = Stream(await stream(run, await sync_to_async(token_of)(ada)))
    await reader.next()
    await Workflow.objects.filter(pk=secret.pk).aupdate(owner=eve)

    kind, error = await reader.next()

    assert (kind, error["code"]) == ("error", "not_found")
    assert await reader.rest() == []


@pytest.mark.django_db(transaction=True)
async def test_a_stream_that_can_not_begin_is_answered_with_the_reason(
    airflow: StagedAirflow, run: Run, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await sync_to_async(token_of)(ada)
    put_task(airflow, run, "running")
    anonymous = await AsyncClient().get(f"{url_of(run)}/stream")
    unknown = await AsyncClient().get(f"{url_of(run, 'lod')}/stream", headers={"Authorization": f"Bearer {token}"})
    monkeypatch.setattr(log_views, "MOST_FOLLOWERS", 0)
    busy = await stream(run, token)

    answers = [anonymous, unknown, busy]

    assert [answer.status_code for answer in answers] == [401, 404, 503]
    assert [answer.json()["code"] for answer in answers] == ["not_authenticated", "not_found", "too_many_followers"]
