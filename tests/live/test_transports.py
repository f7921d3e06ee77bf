"""Server-sent events and polling: the same log as on a WebSocket, with the means of each transport."""

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

from accounts.models import User
from tests.live import log
from tests.live.conftest import HEARTBEAT, new_run, new_user, new_workflow, token_of
from tests.live.parts import Web, until
from tests.live.readers import Loop, PollingReader, Reader, SSEReader, WebSocketReader, get, have, reading, server_sent
from workflows import events, outbox
from workflows.models import Run, Workflow

AWKWARD = 'é ☃ \u2028 \U0001f600 </script> "quoted" \\ \n line'


def record(run: Run, data: events.EventData, **more: Any) -> None:
    with transaction.atomic():
        events.record(data, now=timezone.now(), run=run, **more)


def retried(note: str = "") -> events.WorkflowRetried:
    return events.WorkflowRetried(state="queued", attempt=2, mode="all", note=note, by="ada")


def ask(web: Web, token: str, path: str, **headers: str) -> requests.Response:
    headers = ({"Authorization": f"Bearer {token}"} if token else {}) | headers
    # The body is read when it is asked for: that of a stream has no end.
    return requests.get(f"{web.url}/api/v1/events{path}", headers=headers, timeout=20, stream=True)


def test_an_envelope_is_the_same_on_every_transport_byte_for_byte(
    web: Web, loop: Loop, ada: User, run: Run, start: int
) -> None:
    record(run, retried(AWKWARD))
    [wanted] = log.frames_after(start)
    token = token_of(ada)

    polled = ask(web, token, f"?after={start}").content
    socket = WebSocketReader(bases=[web.url], token=token, cursor=start)

    assert loop.run(_first_event_on_socket(socket, web.url)) == wanted
    assert loop.run(_first_server_sent(web.url, token, start)) == wanted
    assert wanted.encode() in polled
    assert json.loads(wanted)["data"]["note"] == AWKWARD


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
            if "id" in sent:
                return sent["data"]
    raise AssertionError("the stream has ended")


def test_server_sent_events_name_their_type_and_carry_the_cursor_as_id(
    web: Web, loop: Loop, ada: User, run: Run, start: int
) -> None:
    record(run, retried())

    headers, sent = loop.run(_server_sent(web.url, token_of(ada), f"?after={start}", until_event="recovered"))

    assert headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-cache"
    assert [(one["event"], one.get("id")) for one in sent] == [
        ("connection.ready", None),
        ("workflow.retried", str(start + 1)),
        ("recovered", None),
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


def test_last_event_id_goes_before_the_cursor_of_the_address(
    web: Web, loop: Loop, ada: User, run: Run, start: int
) -> None:
    log.append(run, 3)
    query, last = f"?after={start}", {"Last-Event-ID": str(start + 2)}

    _, sent = loop.run(_server_sent(web.url, token_of(ada), query, until_event="recovered", **last))

    assert [one["id"] for one in sent if "id" in one] == [str(start + 3)]


@pytest.mark.parametrize("kind", [WebSocketReader, SSEReader])
def test_a_cursor_beyond_the_end_of_the_log_is_refused_with_the_reason_and_the_stream_goes_on(
    web: Web, loop: Loop, ada: User, run: Run, kind: type[Reader]
) -> None:
    far = outbox.head() + 10_000
    reader = kind(bases=[web.url], token=token_of(ada), cursor=far)

    with reading(loop, [reader]):
        [refused] = [frame for frame in reader.frames if frame["type"] == "recovered"]

    assert refused["recovered"] is False
    assert refused["reason"] == "the cursor is beyond the end of the log"


@pytest.mark.parametrize("kind", [WebSocketReader, SSEReader])
def test_heartbeats_tell_the_head_of_the_log_to_a_reader_for_whom_nothing_happens(
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
    wanted = {
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
        for query in wanted
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

        for query, offsets in wanted.items():
            both = [start + offset for offset in offsets] + [start + 4 + offset for offset in offsets]
            have(readers[query], both, within=15)


def test_polling_gives_pages_and_a_cursor_that_goes_past_what_is_not_wanted(
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
def test_who_is_not_signed_in_gets_401(web: Web, path: str, token: str) -> None:
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
