"""Server-sent events and polling bring the same log as a WebSocket, each in its own form."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from itertools import chain
from typing import Any
from uuid import uuid4

import pytest
import requests
from django.db import transaction
from django.utils import timezone

from accounts import services as accounts
from accounts.models import User
from tests.live import log
from tests.live.conftest import HEARTBEAT, new_run, new_user, new_workflow, token_of
from tests.live.parts import Web, until
from tests.live.readers import Loop, PollingReader, Reader, SSEReader, WebSocketReader, get, have, reading, server_sent
from workflows.eventlog import events, publication
from workflows.models import Run, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState

AWKWARD = 'é ☃ \u2028 \U0001f600 </script> "quoted" \\ \n line'


def record(run: Run, data: events.EventData, **more: Any) -> None:
    with transaction.atomic():
        events.record(data, now=timezone.now(), run=run, **more)


def retried(note: str = "") -> events.WorkflowRetried:
    return events.WorkflowRetried(airflow=DEFAULT, state=RunState.QUEUED, attempt=2, mode="all", note=note, by="ada")


def ask(web: Web, token: str, path: str, **headers: str) -> requests.Response:
    headers = ({"Authorization": f"Bearer {token}"} if token else {}) | headers
    # The body is read when it is asked for: that of a stream has no end.
    return requests.get(f"{web.url}/api/v1/events{path}", headers=headers, timeout=20, stream=True)


def test_an_envelope_is_the_same_on_every_transport_byte_for_byte(
    web: Web, loop: Loop, ada: User, run: Run, start: int
) -> None:
    record(run, retried(AWKWARD))
    [expected] = log.frames_after(start)
    token = token_of(ada)

    polled = ask(web, token, f"?after={start}").content
    socket = WebSocketReader(bases=[web.url], token=token, cursor=start)

    assert loop.run(_first_event_on_socket(socket, web.url)) == expected
    assert loop.run(_first_server_sent(web.url, token, start)) == expected
    assert expected.encode() in polled
    assert json.loads(expected)["data"]["note"] == AWKWARD


async def _first_event_on_socket(reader: WebSocketReader, base: str) -> str:
    async with reader.connected(base, f"?after={reader.cursor}") as connection:
        async for text in connection:
            if str(text).startswith('{"id"'):
                return str(text)
    raise AssertionError("the stream has ended")


async def _first_server_sent(base: str, token: str, after: int) -> str:
    headers = {"Authorization": f"Bearer {token}", "Last-Event-ID": str(after)}
    async with get(f"{base}/api/v1/events/stream", headers) as answer:
        async for sent in server_sent(answer.body):
            if sent["data"].startswith('{"id"'):
                return sent["data"]
    raise AssertionError("the stream has ended")


def test_server_sent_events_name_their_type_and_carry_the_cursor_as_id(
    web: Web, loop: Loop, ada: User, run: Run, start: int
) -> None:
    record(run, retried())

    headers, sent = loop.run(_server_sent(web.url, token_of(ada), f"?after={start}", until_event="recovered"))

    assert headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-store"
    assert [(one["event"], one.get("id")) for one in sent] == [
        ("connection.ready", str(start)),
        ("workflow.retried", str(start + 1)),
        ("recovered", str(start + 1)),
    ]
    assert json.loads(sent[0]["data"])["cursor"] >= start
    assert json.loads(sent[2]["data"]) == {"type": "recovered", "recovered": True, "from": start, "to": start + 1}


async def _server_sent(
    base: str, token: str, query: str, *, until_event: str, **headers: str
) -> tuple[dict[str, str], list[dict[str, str]]]:
    headers = {"Authorization": f"Bearer {token}"} | headers
    found = []
    async with get(f"{base}/api/v1/events/stream{query}", headers) as answer:
        async for sent in server_sent(answer.body):
            found.append(sent)
            if sent["event"] == until_event:
                return answer.headers, found
    raise AssertionError(found)


def test_last_event_id_takes_precedence_over_the_cursor_of_the_address(
    web: Web, loop: Loop, ada: User, run: Run, start: int
) -> None:
    log.append(run, 3)
    query, last = f"?after={start}", {"Last-Event-ID": str(start + 2)}

    _, sent = loop.run(_server_sent(web.url, token_of(ada), query, until_event="recovered", **last))

    assert _ids(sent) == [start + 3]


def _ids(sent: list[dict[str, str]]) -> list[int]:
    """Return the ids of the events of the log among these frames."""
    return [frame["id"] for frame in (json.loads(one["data"]) for one in sent) if "id" in frame]


def _wait_until_it_has_reached(head: int, web: Web, loop: Loop, token: str) -> None:
    def has_reached() -> bool:
        _, [ready] = loop.run(_server_sent(web.url, token, "", until_event="connection.ready"))
        return int(ready["id"]) == head

    until(has_reached, within=10)


@pytest.mark.parametrize("cut_after", ["connection.ready", "task.started", "recovered", "heartbeat"])
def test_a_replay_that_is_cut_after_any_frame_goes_on_at_its_id_without_a_gap_or_repeat(
    web: Web, loop: Loop, ada: User, run: Run, start: int, cut_after: str
) -> None:
    token, query = token_of(ada), f"?after={start}"
    log.append(run, 3)
    _, before = loop.run(_server_sent(web.url, token, query, until_event=cut_after))
    log.append(run, 3)
    last = {"Last-Event-ID": before[-1]["id"]}

    _, after = loop.run(_server_sent(web.url, token, query, until_event="recovered", **last))

    _wait_until_it_has_reached(start + 6, web, loop, token)
    last = {"Last-Event-ID": after[-1]["id"]}
    _, rest = loop.run(_server_sent(web.url, token, query, until_event="recovered", **last))
    assert _ids(before) + _ids(after) + _ids(rest) == log.ids_after(start)


@pytest.mark.parametrize(
    ("query", "cut_after"), [("", "connection.ready"), ("", "heartbeat"), ("?after={}", "recovered")]
)
def test_a_stream_without_a_usable_cursor_that_is_cut_goes_on_at_its_id_without_a_gap_or_repeat(
    web: Web, loop: Loop, ada: User, run: Run, start: int, query: str, cut_after: str
) -> None:
    token, query = token_of(ada), query.format(start + 10_000)
    _wait_until_it_has_reached(start, web, loop, token)
    _, before = loop.run(_server_sent(web.url, token, query, until_event=cut_after))
    log.append(run, 3)
    _wait_until_it_has_reached(start + 3, web, loop, token)
    last = {"Last-Event-ID": before[-1]["id"]}

    _, after = loop.run(_server_sent(web.url, token, query, until_event="recovered", **last))

    assert _ids(before) == []
    assert _ids(after) == [start + 1, start + 2, start + 3]
    assert json.loads(after[-1]["data"])["recovered"] is True


def test_a_reader_that_is_cut_before_it_gets_the_refusal_of_its_cursor_gets_it_again(
    web: Web, loop: Loop, ada: User, start: int
) -> None:
    token, far = token_of(ada), start + 10_000
    _, [ready] = loop.run(_server_sent(web.url, token, f"?after={far}", until_event="connection.ready"))
    last = {"Last-Event-ID": ready["id"]}

    _, after = loop.run(_server_sent(web.url, token, "", until_event="recovered", **last))

    assert json.loads(after[-1]["data"])["recovered"] is False


def test_a_reader_whose_stream_ended_with_an_error_goes_on_at_its_id(
    web: Web, loop: Loop, ada: User, run: Run, start: int
) -> None:
    log.append(run, 3)
    reader = SSEReader(bases=[web.url], token=token_of(ada), cursor=start)
    with reading(loop, [reader]):
        have([reader], log.ids_after(start), within=15)
        accounts.sign_out_everywhere(user=ada)
        until(lambda: reader.is_done, within=15)
    log.append(run, 3)
    again = SSEReader(bases=[web.url], token=token_of(ada), cursor=reader.cursor)

    with reading(loop, [again]):
        have([again], [start + 4, start + 5, start + 6], within=15)

    assert (reader.frames[-1]["type"], reader.cursor) == ("error", start + 3)


@pytest.mark.parametrize("kind", [WebSocketReader, SSEReader])
def test_a_cursor_beyond_the_end_of_the_log_is_refused_with_the_reason_and_the_stream_goes_on(
    web: Web, loop: Loop, ada: User, run: Run, kind: type[Reader]
) -> None:
    far = publication.head() + 10_000
    reader = kind(bases=[web.url], token=token_of(ada), cursor=far)

    with reading(loop, [reader]):
        [refused] = [frame for frame in reader.frames if frame["type"] == "recovered"]

    assert refused["recovered"] is False
    assert refused["reason"] == "the cursor is beyond the end of the log"


@pytest.mark.parametrize("kind", [WebSocketReader, SSEReader])
def test_heartbeats_carry_the_end_of_the_log_to_a_reader_without_events(
    web: Web, loop: Loop, ada: User, workflow: Workflow, run: Run, start: int, kind: type[Reader]
) -> None:
    elsewhere = f"?workflow={new_workflow(ada).pk}" if kind is SSEReader else f"/workflow/{new_workflow(ada).pk}"
    reader = kind(bases=[web.url], token=token_of(ada), cursor=start, path=elsewhere)
    with reading(loop, [reader]):
        log.append(run, 4)

        until(lambda: {"type": "heartbeat", "cursor": start + 4} in reader.frames, within=5 * HEARTBEAT + 5)

    assert reader.ids == []


def test_a_filter_narrows_every_transport_in_the_same_way(
    webs: list[Web], loop: Loop, ada: User, workflow: Workflow, run: Run, start: int
) -> None:
    mine = new_run(new_workflow(new_user()))
    Run.objects.filter(pk=mine.pk).update(user=ada)
    theirs = new_run(workflow)
    Run.objects.filter(pk=theirs.pk).update(user=new_user())
    log.append(run, 1)
    log.append(mine, 1)
    log.append(theirs, 1)
    record(run, retried())
    expected = {
        f"workflow={workflow.pk}": [1, 3, 4],
        f"run={run.pk}": [1, 4],
        f"user={ada.pk}": [1, 2, 4],
        "type=workflow.retried": [4],
        "type=workflow.retried&type=task.started": [1, 2, 3, 4],
        f"workflow={workflow.pk}&user={ada.pk}&type=task.started": [1],
    }
    token = token_of(ada)
    readers = {
        query: [
            SSEReader(bases=[webs[0].url], token=token, cursor=start, path=f"?{query}"),
            PollingReader(bases=[webs[1].url], token=token, cursor=start, path=f"&{query}"),
        ]
        for query in expected
    }
    readers[f"workflow={workflow.pk}"].append(
        WebSocketReader(bases=[webs[0].url], token=token, cursor=start, path=f"/workflow/{workflow.pk}")
    )
    readers[f"user={ada.pk}"].append(
        WebSocketReader(bases=[webs[0].url], token=token, cursor=start, path=f"/user/{ada.pk}")
    )

    with reading(loop, list(chain(*readers.values()))):
        # Each as a replay, and once more live.
        log.append(run, 1)
        log.append(mine, 1)
        log.append(theirs, 1)
        record(run, retried())

        for query, offsets in expected.items():
            both = [start + offset for offset in offsets] + [start + 4 + offset for offset in offsets]
            have(readers[query], both, within=15)


def test_polling_returns_pages_and_a_cursor_beyond_the_events_that_the_filter_excludes(
    web: Web, ada: User, run: Run, start: int
) -> None:
    log.append(run, 5)
    other = new_run(new_workflow(ada))
    log.append(other, 2)
    token = token_of(ada)

    first = ask(web, token, f"?after={start}&run={run.pk}&limit=3").json()
    second = ask(web, token, f"?after={first['cursor']}&run={run.pk}&limit=3").json()
    third = ask(web, token, f"?after={second['cursor']}&run={run.pk}&limit=3").json()

    assert [event["seq"] for event in first["results"]] == [1, 2, 3]
    assert [event["seq"] for event in second["results"]] == [4, 5]
    assert (first["cursor"], second["cursor"]) == (start + 3, start + 7)
    assert third == {"cursor": start + 7, "results": []}


@pytest.mark.parametrize("path", ["", "/stream"])
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?after=-1", "after"),
        ("?after=x", "after"),
        ("?workflow=x", "workflow"),
        ("?user=1e3", "user"),
        ("?run=7", "run"),
        ("?type=workflow.exploded", "type"),
        ("?limit=0", "limit"),
        ("?limit=1001", "limit"),
    ],
)
def test_a_wrong_parameter_is_refused_with_its_name(web: Web, ada: User, path: str, query: str, field: str) -> None:
    answer = ask(web, token_of(ada), f"{path}{query}")

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert list(answer.json()["errors"]) == [field]
    assert answer.json()["request_id"]


def test_a_wrong_last_event_id_is_refused_with_its_name(web: Web, ada: User) -> None:
    answer = ask(web, token_of(ada), "/stream", **{"Last-Event-ID": "yesterday"})

    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["Last-Event-ID"])


@pytest.mark.parametrize("path", ["", "/stream"])
@pytest.mark.parametrize("token", ["", "nonsense"])
def test_a_caller_without_valid_credentials_gets_401(web: Web, path: str, token: str) -> None:
    answer = ask(web, token, path)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert set(answer.json()) == {"code", "detail", "request_id"}


@pytest.mark.parametrize("path", ["", "/stream"])
def test_following_somebody_else_is_403_and_an_unknown_workflow_or_run_404(web: Web, ada: User, path: str) -> None:
    token = token_of(ada)

    answers = [
        ask(web, token, f"{path}?user={new_user().pk}"),
        ask(web, token, f"{path}?workflow=987654"),
        ask(web, token, f"{path}?run={uuid4()}"),
    ]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
        (403, "permission_denied"),
        (404, "not_found"),
        (404, "not_found"),
    ]


def test_timestamps_are_utc_and_of_now(web: Web, ada: User, run: Run, start: int) -> None:
    record(run, retried())

    [event] = ask(web, token_of(ada), f"?after={start}").json()["results"]

    assert event["timestamp"].endswith("Z")
    assert timezone.now() - datetime.fromisoformat(event["timestamp"]) < timedelta(minutes=1)
