"""The WebSocket streams: who may open which, what they deliver, and how they repair what was lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import redis
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings as django_settings
from django.db import connection, transaction
from django.test import AsyncClient
from django.test import Client as Browser
from pytest_django import Settings

from accounts import services as accounts
from accounts.models import Role, User
from svops.asgi import application
from svops.local.testing import Served
from workflows import audience, events, hub, outbox, services
from workflows.airflow.tests.scripted import unused_port
from workflows.models import Event, Grant, Level, LogHead, Run, Visibility, Workflow
from workflows.states import RunState
from workflows.tests.conftest import token_of
from workflows.tests.stage import NOW, new_run

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 20


def in_thread(work: Callable[..., Any]) -> Callable[..., Any]:
    """`work` with the database, from a test that runs on the event loop."""

    def run_and_close(*args: Any, **kwargs: Any) -> Any:
        try:
            return work(*args, **kwargs)
        finally:
            connection.close()

    return sync_to_async(run_and_close)


@in_thread
def happen(*runs: Run | None) -> list[int]:
    """An event of each run, or of none, in one transaction; their positions."""
    with transaction.atomic():
        made = [events.record(_data(run), now=NOW, run=run) for run in runs]
    found = Event.objects.in_bulk([event.pk for event in made])
    return [found[event.pk].position or 0 for event in made]


def _data(run: Run | None) -> events.EventData:
    if run is None:
        return events.AirflowUp(version="3.3.2")
    return events.WorkflowStarted(state="running", attempt=1, started_at=NOW.isoformat())


class Socket:
    """A client's end of a stream."""

    def __init__(self, path: str, **headers: str) -> None:
        protocols = [part for part in headers.pop("protocols", "").split() if part]
        sent = {"host": "localhost", **headers}
        raw = [(name.encode(), value.encode()) for name, value in sent.items()]
        self._wire = WebsocketCommunicator(application, f"/api/v1/ws{path}", headers=raw, subprotocols=protocols)
        self._waiting: list[dict[str, Any]] = []

    async def open(self) -> str | None:
        """Shake hands; the sub-protocol."""
        accepted, protocol = await self._wire.connect(timeout=PATIENCE)
        assert accepted
        return protocol if isinstance(protocol, str) else None

    async def say(self, message: Any) -> None:
        await self._wire.send_to(text_data=message if isinstance(message, str) else json.dumps(message))

    async def say_bytes(self, data: bytes) -> None:
        await self._wire.send_to(bytes_data=data)

    async def next(self) -> dict[str, Any]:
        """The next message; a frame of several events counts as several."""
        if not self._waiting:
            frame = json.loads(await self._wire.receive_from(timeout=PATIENCE))
            self._waiting = frame["events"] if frame["type"] == "events" else [frame]
        return self._waiting.pop(0)

    async def ask(self, message: Any) -> dict[str, Any]:
        await self.say(message)
        return await self.next()

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """All messages up to the next of this type, which is the last."""
        messages = [await self.next()]
        while messages[-1]["type"] != kind:
            messages.append(await self.next())
        return messages

    async def delivered(self) -> list[int]:
        """The positions of all events that have been sent once the hub has come to the end of the log."""
        await hub_is_at(await in_thread(outbox.head)())
        await self.say({"type": "ping"})
        return [message["id"] for message in await self.until("pong") if "id" in message]

    async def closed(self) -> int:
        """The code that the server closes with; events that come before are skipped."""
        while True:
            output = await self._wire.receive_output(timeout=PATIENCE)
            if output["type"] == "websocket.close":
                return int(output["code"])

    async def end(self) -> None:
        await self._wire.disconnect(timeout=PATIENCE)


async def hub_is_at(position: int) -> None:
    deadline = time.monotonic() + PATIENCE
    running = await hub.running_hub()
    while running.position < position:
        assert time.monotonic() < deadline, (running.position, position)
        await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def sockets() -> AsyncIterator[list[Socket]]:
    opened: list[Socket] = []
    yield opened
    for socket in opened:
        await socket.end()
    running = hub._hubs.get(asyncio.get_running_loop())
    if running and running._follower:
        running._follower.cancel()
        await asyncio.gather(running._follower, return_exceptions=True)


Connect = Callable[..., Any]


@pytest_asyncio.fixture
async def connect(sockets: list[Socket]) -> Connect:
    """Open a stream without a word about who one is."""

    async def opened(path: str = "", **headers: str) -> Socket:
        socket = Socket(path, **headers)
        sockets.append(socket)
        await socket.open()
        return socket

    return opened


@pytest_asyncio.fixture
async def stream(connect: Connect) -> Connect:
    """Open a stream as a user and read its greeting."""

    async def greeted(user: User, path: str = "") -> Socket:
        socket: Socket = await connect(path, authorization=f"Bearer {await in_thread(token_of)(user)}")
        greeting = await socket.next()
        assert greeting["type"] == "connection.ready", greeting
        return socket

    return greeted


@pytest.fixture
def run(nightly: Workflow, ada: User) -> Run:
    return new_run(nightly, user=ada)


# --- Who one is -----------------------------------------------------------------------------------------------


async def test_a_token_in_the_sub_protocol_opens_a_stream(sockets: list[Socket], ada: User) -> None:
    socket = Socket("", protocols=f"svops.v1 bearer.{await in_thread(token_of)(ada)}")
    sockets.append(socket)

    assert await socket.open() == "svops.v1"

    assert await socket.next() == {"type": "connection.ready", "cursor": 0, "heartbeat_s": 20.0, "protocol": 1}


async def test_a_token_in_the_header_opens_a_stream(connect: Connect, ada: User) -> None:
    socket = await connect(authorization=f"Bearer {await in_thread(token_of)(ada)}")

    assert (await socket.next())["type"] == "connection.ready"


async def test_a_token_in_the_first_message_opens_a_stream(connect: Connect, ada: User) -> None:
    socket = await connect()

    answer = await socket.ask({"type": "auth", "token": await in_thread(token_of)(ada)})

    assert answer["type"] == "connection.ready"


@in_thread
def cookie_of(user: User) -> str:
    browser = Browser()
    browser.force_login(user)
    return f"sessionid={browser.cookies['sessionid'].value}"


async def test_a_session_opens_a_stream_from_our_own_pages(connect: Connect, ada: User) -> None:
    socket = await connect(cookie=await cookie_of(ada), origin="http://localhost")

    assert (await socket.next())["type"] == "connection.ready"


async def test_a_session_opens_a_stream_from_a_page_at_an_ipv6_address(
    connect: Connect, ada: User, settings: Settings
) -> None:
    settings.ALLOWED_HOSTS = ["[::1]"]
    socket = await connect(cookie=await cookie_of(ada), host="[::1]:8000", origin="http://[::1]:8000")

    assert (await socket.next())["type"] == "connection.ready"


@pytest.mark.parametrize("origin", [{}, {"origin": "http://evil.example"}, {"origin": "null"}])
async def test_a_session_from_any_other_page_is_refused(connect: Connect, ada: User, origin: dict[str, str]) -> None:
    socket = await connect(cookie=await cookie_of(ada), **origin)

    assert await socket.closed() == 4403


@pytest.mark.parametrize("way", ["header", "protocol", "message"])
async def test_a_wrong_token_is_refused_whichever_way_it_comes(connect: Connect, ada: User, way: str) -> None:
    headers = {"header": {"authorization": "Bearer wrong"}, "protocol": {"protocols": "svops.v1 bearer.wrong"}}
    socket = await connect(**headers.get(way, {}))
    if way == "message":
        await socket.say({"type": "auth", "token": "wrong"})

    assert await socket.closed() == 4401


async def test_a_first_message_other_than_auth_ends_the_stream(connect: Connect) -> None:
    socket = await connect()
    await socket.say({"type": "ping"})

    assert await socket.closed() == 4401


async def test_who_does_not_say_who_they_are_is_closed_in_time(connect: Connect, settings: Settings) -> None:
    settings.STREAM_AUTH_TIMEOUT = 0.1
    socket = await connect()

    assert await socket.closed() == 4401


async def test_a_token_in_the_url_is_not_looked_at(connect: Connect, ada: User, settings: Settings) -> None:
    settings.STREAM_AUTH_TIMEOUT = 0.1
    socket = await connect(f"?token={await in_thread(token_of)(ada)}")

    assert await socket.closed() == 4401


# --- Which streams there are ----------------------------------------------------------------------------------


@pytest.fixture
def two_streams_an_hour(settings: Settings) -> Iterator[None]:
    settings.RATE_LIMIT_STREAM = "2/hour"
    server = redis.Redis.from_url(settings.REDIS_URL)
    for key in server.scan_iter("LIMITS:*"):
        server.delete(key)
    yield
    server.close()


async def test_a_user_who_opens_too_many_streams_is_told_when_to_come_back(
    two_streams_an_hour: None, stream: Connect, connect: Connect, ada: User, eve: User
) -> None:
    token = await in_thread(token_of)(ada)
    await stream(ada)
    await stream(ada)

    third = await connect("", authorization=f"Bearer {token}")
    refusal = await third.next()
    code = await third.closed()
    over_http = await AsyncClient().get("/api/v1/events/stream", headers={"authorization": f"Bearer {token}"})

    assert (refusal["type"], refusal["code"]) == ("error", "throttled")
    assert 1 <= refusal["retry_after"] <= 3600
    assert (code, over_http.status_code, over_http.json()["code"]) == (4429, 429, "throttled")
    assert 1 <= int(over_http["Retry-After"]) <= 3600
    await stream(eve)


@pytest.mark.parametrize("path", ["/workflow/999", "/nothing", "/workflow/99999999999999999999999"])
async def test_an_unknown_stream_is_closed_as_unknown(connect: Connect, ada: User, path: str) -> None:
    socket = await connect(path, authorization=f"Bearer {await in_thread(token_of)(ada)}")

    assert await socket.closed() == 4404


async def test_a_path_that_is_no_stream_shakes_hands_so_that_a_browser_sees_the_code(
    sockets: list[Socket], ada: User
) -> None:
    socket = Socket("/nothing", protocols="svops.v1 bearer.x")
    sockets.append(socket)

    assert (await socket.open(), await socket.closed()) == ("svops.v1", 4404)


async def test_a_strangers_private_workflow_is_unknown(connect: Connect, eve: User, secret: Workflow) -> None:
    socket = await connect(f"/workflow/{secret.pk}", authorization=f"Bearer {await in_thread(token_of)(eve)}")

    assert await socket.closed() == 4404


async def test_somebody_elses_stream_is_for_admins_only(connect: Connect, ada: User, eve: User, root: User) -> None:
    theirs = f"/user/{ada.pk}"

    refused = await connect(theirs, authorization=f"Bearer {await in_thread(token_of)(eve)}")
    assert await refused.closed() == 4403
    allowed = await connect(theirs, authorization=f"Bearer {await in_thread(token_of)(root)}")
    assert (await allowed.next())["type"] == "connection.ready"
    unknown = await connect("/user/999", authorization=f"Bearer {await in_thread(token_of)(root)}")
    assert await unknown.closed() == 4404


async def test_each_stream_delivers_just_what_it_should(
    stream: Connect, nightly: Workflow, secret: Workflow, ada: User, eve: User, root: User, vera: User
) -> None:
    make = in_thread(new_run)
    everything = [
        await make(nightly, user=ada),
        await make(nightly, user=eve),
        await make(secret, user=ada),
        await make(secret, user=root),
        None,
    ]
    expected = {
        (ada, ""): [1, 2, 3, 4, 5],
        (root, ""): [1, 2, 3, 4, 5],
        (eve, ""): [1, 2, 5],
        (vera, ""): [1, 2, 5],
        (ada, f"/user/{ada.pk}"): [1, 3],
        (eve, f"/user/{eve.pk}"): [2],
        (root, f"/user/{ada.pk}"): [1, 3],
        (ada, f"/workflow/{nightly.pk}"): [1, 2],
        (ada, f"/workflow/{secret.pk}"): [3, 4],
        (vera, f"/workflow/{nightly.pk}"): [1, 2],
        (ada, f"/user/{ada.pk}/workflow/{nightly.pk}"): [1],
        (ada, f"/user/{ada.pk}/workflow/{secret.pk}"): [3],
        (eve, f"/user/{eve.pk}/workflow/{nightly.pk}"): [2],
    }
    opened = {key: await stream(*key) for key in expected}

    for run in everything:
        await happen(run)

    assert {key: await socket.delivered() for key, socket in opened.items()} == expected


async def test_an_event_arrives_as_its_envelope(stream: Connect, ada: User, run: Run) -> None:
    socket = await stream(ada)

    await happen(run)

    assert await socket.next() == {
        "id": 1,
        "seq": 1,
        "type": "workflow.started",
        "workflow_id": run.workflow_id,
        "run_id": str(run.pk),
        "task_id": None,
        "user_id": ada.pk,
        "timestamp": "2026-03-01T12:00:00Z",
        "data": {"state": "running", "attempt": 1, "started_at": "2026-03-01T12:00:00+00:00"},
    }


def test_audience_and_queryset_agree(
    nightly: Workflow, secret: Workflow, ada: User, eve: User, root: User, vera: User
) -> None:
    Workflow.objects.create(name="Gone", dag=nightly.dag, owner=ada, deleted_at=NOW)
    granted = Workflow.objects.create(name="Gone too", dag=nightly.dag, owner=root, deleted_at=NOW)
    Grant.objects.create(workflow=granted, user=eve)
    everything = list(Workflow.objects.all())
    audiences = audience.load([workflow.pk for workflow in everything])

    for user in (ada, eve, root, vera):
        included = {pk for pk, a in audiences.items() if a.includes(user_id=user.pk, is_admin=user.is_superuser)}
        assert included == set(Workflow.objects.remembered_by(user).values_list("pk", flat=True)), user


async def test_a_workflow_made_private_is_no_longer_delivered_to_strangers(
    stream: Connect, ada: User, eve: User, nightly: Workflow, run: Run
) -> None:
    socket = await stream(eve)
    await happen(run)
    assert await socket.delivered() == [1]

    await in_thread(services.update_workflow)(workflow=nightly, actor=ada, visibility=Visibility.PRIVATE)
    await happen(run)

    assert await socket.delivered() == []


async def test_a_workflow_made_private_is_not_delivered_for_longer_than_a_heartbeat_when_the_word_is_lost(
    stream: Connect, ada: User, eve: User, nightly: Workflow, run: Run, settings: Settings
) -> None:
    settings.STREAM_HEARTBEAT = 0.3
    socket = await stream(eve)
    await happen(run)
    assert await socket.delivered() == [1]
    await in_thread(Workflow.objects.filter(pk=nightly.pk).update)(visibility=Visibility.PRIVATE)
    await socket.until("heartbeat")
    await socket.until("heartbeat")

    await happen(run)

    assert await socket.delivered() == []


# --- What a client may ask ------------------------------------------------------------------------------------


async def test_a_ping_is_answered(stream: Connect, ada: User) -> None:
    socket = await stream(ada)

    assert await socket.ask({"type": "ping"}) == {"type": "pong"}


async def test_subscriptions_narrow_a_stream_and_add_up(
    stream: Connect, ada: User, nightly: Workflow, secret: Workflow
) -> None:
    make = in_thread(new_run)
    first, second, third = await make(nightly), await make(nightly), await make(secret)
    socket = await stream(ada)

    by_run = {"type": "subscribe", "run_id": str(first.pk)}
    assert await socket.ask(by_run) == {"type": "subscribed", "run_id": str(first.pk)}
    await happen(first, second, third, None)
    assert await socket.delivered() == [1]

    by_workflow = {"workflow_id": secret.pk, "types": ["workflow.started"]}
    assert await socket.ask({"type": "subscribe", **by_workflow}) == {"type": "subscribed", **by_workflow}
    await happen(first, second, third, None)
    assert await socket.delivered() == [5, 7]

    assert await socket.ask({**by_run, "type": "unsubscribe"}) == {"type": "unsubscribed", "run_id": str(first.pk)}
    await happen(first, second, third, None)
    assert await socket.delivered() == [11]

    await socket.ask({"type": "unsubscribe", **by_workflow})
    await happen(first, second, third, None)
    assert await socket.delivered() == [13, 14, 15, 16]


async def test_types_alone_narrow_a_stream(stream: Connect, ada: User, run: Run) -> None:
    socket = await stream(ada)

    await socket.ask({"type": "subscribe", "types": ["system.airflow_up"]})
    await happen(run, None)

    assert await socket.delivered() == [2]


async def test_a_subscription_stays_within_the_bounds_of_the_route(
    stream: Connect, ada: User, nightly: Workflow, secret: Workflow
) -> None:
    socket = await stream(ada, f"/workflow/{nightly.pk}")

    answer = await socket.ask({"type": "subscribe", "workflow_id": secret.pk})

    assert answer == {
        "type": "error",
        "code": "bad_message",
        "detail": f"workflow_id: this stream is of workflow {nightly.pk} alone.",
    }


async def test_subscriptions_are_limited(stream: Connect, ada: User, settings: Settings) -> None:
    settings.STREAM_SUBSCRIPTIONS = 2
    socket = await stream(ada)
    kinds = ["workflow.started", "workflow.failed", "workflow.completed"]

    answers = [await socket.ask({"type": "subscribe", "types": [kind]}) for kind in kinds]

    assert [answer["type"] for answer in answers] == ["subscribed", "subscribed", "error"]
    assert answers[2]["detail"] == "At most 2 subscriptions on one stream."


async def test_the_status_of_a_run_comes_with_the_cursor_from_which_events_go_on(
    stream: Connect, ada: User, run: Run
) -> None:
    await in_thread(run.tasks.create)(task_id="extract", state="running", try_number=1)
    await happen(run, run)
    socket = await stream(ada)

    answer = await socket.ask({"type": "get_status", "run_id": str(run.pk)})

    assert (answer["type"], answer["cursor"]) == ("status", 2)
    assert (answer["run"]["id"], answer["run"]["state"]) == (str(run.pk), "queued")
    assert [(task["task_id"], task["state"]) for task in answer["tasks"]] == [("extract", "running")]


WORKFLOW_FIELDS = "Expected one of workflow_id, run_id, types."
TYPES = f"types: expected a list of {', '.join(sorted(events.CATALOGUE))}."
OF_TYPE = 'Expected a JSON object with a "type".'
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        ("not json", OF_TYPE),
        ("[1]", OF_TYPE),
        ("[" * 16_000, OF_TYPE),
        ({"type": "dance"}, "type: 'dance' is unknown; expected one of get_status, ping, resume, subscribe, "
                            "unsubscribe."),
        ({}, "type: 'None' is unknown; expected one of get_status, ping, resume, subscribe, unsubscribe."),
        ("x" * 16_385, "Expected a text message of at most 16384 characters."),
        ({"type": "subscribe"}, WORKFLOW_FIELDS),
        ({"type": "subscribe", "types": ["no.such"]}, TYPES),
        ({"type": "subscribe", "types": "workflow.started"}, TYPES),
        ({"type": "subscribe", "types": [{}]}, TYPES),
        ({"type": "subscribe", "workflow_id": "1"}, "workflow_id: expected a whole number."),
        ({"type": "subscribe", "workflow_id": True}, "workflow_id: expected a whole number."),
        ({"type": "subscribe", "workflow_id": 2**70},
         f"workflow_id: there is no workflow {2**70}, or none that you may see."),
        ({"type": "subscribe", "run_id": "x"}, "run_id: expected a UUID."),
        ({"type": "get_status"}, "run_id: expected a UUID."),
        ({"type": "get_status", "run_id": NOBODY}, f"run_id: there is no run {NOBODY}, or none that you may see."),
        ({"type": "unsubscribe", "types": ["workflow.started"]}, "There is no such subscription on this stream."),
        ({"type": "resume"}, "after: expected a cursor, which is a whole number."),
        ({"type": "resume", "after": -1}, "after: expected a cursor, which is a whole number."),
        ({"type": "resume", "after": "1.5"}, "after: expected a cursor, which is a whole number."),
    ],
)  # fmt: skip
async def test_a_message_that_makes_no_sense_is_answered_and_the_stream_goes_on(
    stream: Connect, ada: User, run: Run, message: Any, detail: str
) -> None:
    socket = await stream(ada)

    assert await socket.ask(message) == {"type": "error", "code": "bad_message", "detail": detail}

    await happen(run)
    assert await socket.delivered() == [1]


async def test_a_binary_message_is_answered(stream: Connect, ada: User) -> None:
    socket = await stream(ada)

    await socket.say_bytes(b"\x00")

    assert (await socket.next())["detail"] == "Expected a text message of at most 16384 characters."


async def test_a_strangers_run_is_unknown_to_subscribe_and_get_status(
    stream: Connect, eve: User, secret: Workflow
) -> None:
    hidden = await in_thread(new_run)(secret)
    socket = await stream(eve)

    for kind in ("subscribe", "get_status"):
        answer = await socket.ask({"type": kind, "run_id": str(hidden.pk)})
        assert answer["detail"] == f"run_id: there is no run {hidden.pk}, or none that you may see."


# --- Resuming -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["url", "message"])
async def test_a_client_that_resumes_gets_every_missed_event_once_and_then_the_live_ones(
    stream: Connect, ada: User, run: Run, by: str
) -> None:
    await happen(*[run] * 5)
    socket = await stream(ada, "?after=2" if by == "url" else "")
    if by == "message":
        assert await socket.ask({"type": "resume", "after": 2}) == {"type": "resuming", "from": 2}

    replayed = await socket.until("recovered")
    await happen(run)

    assert [message["id"] for message in replayed[:-1]] == [3, 4, 5]
    assert replayed[-1] == {"type": "recovered", "recovered": True, "from": 2, "to": 5}
    assert await socket.delivered() == [6]


async def test_after_a_resume_an_open_stream_gets_exactly_the_log_after_the_cursor_whatever_came_live_before(
    stream: Connect, ada: User, run: Run
) -> None:
    socket = await stream(ada)
    await happen(*[run] * 5)
    assert await socket.delivered() == [1, 2, 3, 4, 5]

    await socket.say({"type": "resume", "after": 1})
    for _ in range(5):
        await happen(run)
    live = await socket.until("resuming")
    replayed = await socket.until("recovered")
    await happen(run)

    assert {message.get("id", 6) for message in live} <= set(range(6, 11))
    ids = [message["id"] for message in replayed[:-1]] + await socket.delivered()
    assert ids == list(range(2, 12))


async def test_a_resume_that_is_refused_leaves_an_open_stream_as_it_is(stream: Connect, ada: User, run: Run) -> None:
    socket = await stream(ada)
    await happen(run)
    assert await socket.delivered() == [1]

    await socket.say({"type": "resume", "after": 7})
    for _ in range(5):
        await happen(run)
    await hub_is_at(6)
    await socket.say({"type": "ping"})
    messages = await socket.until("pong")

    assert [message["id"] for message in messages if "id" in message] == [2, 3, 4, 5, 6]
    refusals = [message for message in messages if message["type"] in {"recovered", "resuming"}]
    assert [(refusal["recovered"], refusal["from"]) for refusal in refusals] == [(False, 7)]


async def test_a_stream_whose_cursor_is_refused_misses_nothing_after_its_greeting(
    connect: Connect, ada: User, run: Run
) -> None:
    token = await in_thread(token_of)(ada)
    socket, _ = await asyncio.gather(connect("?after=7", authorization=f"Bearer {token}"), happen(*[run] * 5))
    greeting, refusal = await socket.next(), await socket.next()
    await happen(run)

    assert (refusal["type"], refusal["recovered"]) == ("recovered", False)
    assert await socket.delivered() == list(range(greeting["cursor"] + 1, await in_thread(outbox.head)() + 1))


async def test_a_long_replay_is_whole_while_more_happens(stream: Connect, ada: User, run: Run) -> None:
    await happen(*[run] * (outbox.BATCH + 20))
    socket = await stream(ada, "?after=0")

    for _ in range(5):
        await happen(run)

    replayed = await socket.until("recovered")
    ids = [message["id"] for message in replayed[:-1]] + await socket.delivered()
    assert ids == list(range(1, outbox.BATCH + 26))


async def test_a_replay_shows_just_what_the_caller_may_see(
    stream: Connect, eve: User, nightly: Workflow, secret: Workflow
) -> None:
    make = in_thread(new_run)
    await happen(await make(nightly), await make(secret), None)

    socket = await stream(eve, "?after=0")

    assert [message.get("id") for message in await socket.until("recovered")] == [1, 3, None]


async def test_the_events_of_a_deleted_workflow_are_replayed_to_its_owner_alone(
    connect: Connect, stream: Connect, ada: User, eve: User, nightly: Workflow, run: Run
) -> None:
    await happen(run, None)
    await in_thread(Run.objects.filter(pk=run.pk).update)(state=RunState.SUCCESS)
    await in_thread(services.delete_workflow)(workflow=nightly, actor=ada)

    owners, of_workflow = await stream(ada, "?after=0"), await stream(ada, f"/workflow/{nightly.pk}?after=0")
    strangers = await stream(eve, "?after=0")
    closed = await connect(f"/workflow/{nightly.pk}", authorization=f"Bearer {await in_thread(token_of)(eve)}")

    assert [message.get("id") for message in await owners.until("recovered")] == [1, 2, None]
    assert [message.get("id") for message in await of_workflow.until("recovered")] == [1, None]
    assert [message.get("id") for message in await strangers.until("recovered")] == [2, None]
    assert await closed.closed() == 4404


async def test_a_cursor_beyond_the_end_of_the_log_is_refused_and_the_stream_is_live(
    stream: Connect, ada: User, run: Run
) -> None:
    socket = await stream(ada, "?after=7")

    refusal = await socket.next()
    assert (refusal["type"], refusal["recovered"], refusal["from"]) == ("recovered", False, 7)
    assert refusal["reason"] == "the cursor is beyond the end of the log"
    await happen(run)
    assert await socket.delivered() == [1]


async def test_a_cursor_that_is_none_is_told_and_the_stream_is_live(stream: Connect, ada: User, run: Run) -> None:
    socket = await stream(ada, "?after=yesterday")

    assert await socket.next() == {
        "type": "error",
        "code": "bad_message",
        "detail": "after: expected a cursor, which is a whole number.",
    }
    await happen(run)
    assert await socket.delivered() == [1]


async def test_a_client_that_is_ahead_of_this_process_gets_nothing_twice(
    stream: Connect, ada: User, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "QUIET", 0.5)
    await stream(ada)
    await hub_is_at(0)
    await publish_silently(run, 3)

    socket = await stream(ada, "?after=2")
    messages = await socket.until("recovered")
    await happen(run)

    ids = [message["id"] for message in messages if "id" in message] + await socket.delivered()
    assert ids == [3, 4]


async def test_a_replay_ends_when_the_end_of_the_log_has_been_deleted(
    stream: Connect, ada: User, nightly: Workflow, run: Run
) -> None:
    other = await in_thread(new_run)(nightly)
    first = await stream(ada)
    await happen(run, other, other)
    assert await first.delivered() == [1, 2, 3]
    await in_thread(other.delete)()

    socket = await stream(ada, "?after=0")
    messages = await socket.until("recovered")
    await happen(run)

    assert [message.get("id") for message in messages] == [1, None]
    assert await socket.delivered() == [4]


# --- Repairs --------------------------------------------------------------------------------------------------


@in_thread
def publish_silently(run: Run, count: int) -> None:
    """Events with their positions, of which Redis has not heard."""
    head = outbox.head()
    for n in range(1, count + 1):
        seq = Event.objects.filter(run=run).count() + 1
        Run.objects.filter(pk=run.pk).update(event_count=seq)
        common = {"run": run, "workflow_id": run.workflow_id, "user_id": run.user_id, "timestamp": NOW}
        Event.objects.create(position=head + n, seq=seq, type="workflow.started", **common)
    LogHead.objects.update_or_create(pk=1, defaults={"position": head + count})


async def test_a_lost_wake_up_is_made_up_for_by_silence(
    stream: Connect, ada: User, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "QUIET", 0.1)
    socket = await stream(ada)
    # Two turns, after which the look at the table that follows the subscription is over.
    for n in (1, 2):
        await happen(run)
        assert await socket.delivered() == [n]

    await publish_silently(run, 2)

    assert [(await socket.next())["id"] for _ in range(2)] == [3, 4]


async def test_a_lost_wake_up_is_made_up_for_by_the_next_one(stream: Connect, ada: User, run: Run) -> None:
    socket = await stream(ada)
    await happen(run)
    assert await socket.delivered() == [1]

    await publish_silently(run, 2)
    await happen(run)

    assert await socket.delivered() == [2, 3, 4]


async def test_without_redis_events_come_from_the_table(
    stream: Connect, ada: User, run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "WITHOUT_REDIS", 0.1)
    with unused_port() as port:
        settings.REDIS_URL = f"redis://127.0.0.1:{port}/0"
        socket = await stream(ada)

        await publish_silently(run, 2)

        assert [(await socket.next())["id"] for _ in range(2)] == [1, 2]


async def test_what_is_read_from_the_table_is_shown_by_the_rights_of_that_moment(
    stream: Connect, eve: User, nightly: Workflow, run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "WITHOUT_REDIS", 0.1)
    with unused_port() as port:
        settings.REDIS_URL = f"redis://127.0.0.1:{port}/0"
        socket = await stream(eve)
        await publish_silently(run, 1)
        assert (await socket.next())["id"] == 1

        await in_thread(Workflow.objects.filter(pk=nightly.pk).update)(visibility=Visibility.PRIVATE)
        await publish_silently(run, 1)

        assert await socket.delivered() == []


async def test_a_redis_that_dies_and_comes_back_loses_no_event(
    stream: Connect, ada: User, run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hub, "WITHOUT_REDIS", 0.1)
    served = await asyncio.to_thread(Served, "redis", home=tmp_path)
    settings.REDIS_URL = served.exports["REDIS_URL"]
    outbox._redis.cache_clear()
    try:
        socket = await stream(ada)
        await happen(run)
        assert await socket.delivered() == [1]
    finally:
        await asyncio.to_thread(served.stop)

    await happen(run, run)
    assert await socket.delivered() == [2, 3]

    settings.REDIS_URL = django_settings.CACHES["default"]["LOCATION"]
    outbox._redis.cache_clear()
    await happen(run)
    assert await socket.delivered() == [4]


# --- Heartbeats, and the end ----------------------------------------------------------------------------------


async def test_a_heartbeat_tells_how_far_the_log_has_been_delivered(
    stream: Connect, ada: User, run: Run, settings: Settings
) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    socket = await stream(ada)
    assert await socket.next() == {"type": "heartbeat", "cursor": 0}

    await happen(run, run)
    await hub_is_at(2)
    messages = await socket.until("heartbeat")
    while messages[-1]["cursor"] != 2:
        messages += await socket.until("heartbeat")

    assert [message["id"] for message in messages if "id" in message] == [1, 2]


async def test_a_user_who_is_deactivated_is_closed_at_the_next_heartbeat(
    stream: Connect, ada: User, settings: Settings
) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    socket = await stream(ada)

    await in_thread(accounts.deactivate)(user=ada)

    assert await socket.closed() == 4401


async def test_a_token_that_was_logged_out_is_closed_at_the_next_heartbeat(
    stream: Connect, ada: User, settings: Settings
) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    socket = await stream(ada)

    await in_thread(ada.sign_ins.update)(ended_at=NOW)

    assert await socket.closed() == 4401


async def test_a_session_that_was_logged_out_is_closed_at_the_next_heartbeat(
    connect: Connect, ada: User, settings: Settings
) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    browser = Browser()
    await in_thread(browser.force_login)(ada)
    cookie = f"sessionid={browser.cookies['sessionid'].value}"
    socket = await connect(cookie=cookie, origin="http://localhost")
    assert (await socket.next())["type"] == "connection.ready"

    await in_thread(browser.logout)()

    assert await socket.closed() == 4401


async def test_a_stream_that_can_not_be_watched_any_more_ends(
    connect: Connect, ada: User, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    socket = await connect(cookie=await cookie_of(ada), origin="http://localhost")
    assert (await socket.next())["type"] == "connection.ready"

    settings.SESSION_ENGINE = "no.such.engine"

    assert await socket.closed() == 1011
    assert "a stream ends on an error" in caplog.messages


async def test_an_admin_who_is_one_no_more_is_closed_on_somebody_elses_stream(
    stream: Connect, ada: User, root: User, settings: Settings
) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    second = await in_thread(User.objects.create_user)("boss", "boss@example.com", role=Role.ADMIN)
    socket = await stream(second, f"/user/{ada.pk}")

    await in_thread(accounts.change_role)(user=second, role=Role.USER)

    assert await socket.closed() == 4403


async def test_an_admin_who_is_one_no_more_sees_no_private_workflow_any_more(
    stream: Connect, root: User, secret: Workflow, settings: Settings
) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    second = await in_thread(User.objects.create_user)("boss", "boss@example.com", role=Role.ADMIN)
    hidden = await in_thread(new_run)(secret)
    socket = await stream(second)
    await in_thread(accounts.change_role)(user=second, role=Role.USER)
    await socket.until("heartbeat")
    await socket.until("heartbeat")

    await happen(hidden)

    assert await socket.delivered() == []


async def test_the_stream_of_a_workflow_that_became_private_ends_for_strangers(
    stream: Connect, ada: User, eve: User, nightly: Workflow, settings: Settings
) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    socket = await stream(eve, f"/workflow/{nightly.pk}")

    await in_thread(services.update_workflow)(workflow=nightly, actor=ada, visibility=Visibility.PRIVATE)

    assert await socket.closed() == 4403


@pytest.mark.parametrize("path", ["/workflow/{workflow}", "/user/{user}/workflow/{workflow}"])
async def test_the_stream_of_a_workflow_ends_for_whom_a_grant_is_taken_from(
    stream: Connect, connect: Connect, eve: User, root: User, secret: Workflow, settings: Settings, path: str
) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    given = await in_thread(services.grant)(workflow=secret, actor=root, level=Level.VIEW, user=eve)
    path = path.format(workflow=secret.pk, user=eve.pk)
    socket = await stream(eve, path)

    await in_thread(services.revoke)(grant=given.grant, actor=root)

    assert await socket.closed() == 4403
    # Who comes now is told what a stranger is.
    again = await connect(path, authorization=f"Bearer {await in_thread(token_of)(eve)}")
    assert await again.closed() == 4404


async def test_a_client_too_slow_for_its_queue_is_closed_and_resumes_without_a_loss(
    stream: Connect, ada: User, run: Run, settings: Settings
) -> None:
    settings.STREAM_QUEUE_BYTES = 2_000
    token = await in_thread(token_of)(ada)
    sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    goes_on = asyncio.Event()

    async def send(message: Any) -> None:
        await sent.put(message)
        if message["type"] == "websocket.send" and sent.qsize() > 2:
            await goes_on.wait()

    slow = Socket("", authorization=f"Bearer {token}")
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    received.put_nowait({"type": "websocket.connect"})
    serving = asyncio.create_task(application(dict(slow._wire.scope), received.get, send))
    deadline = time.monotonic() + PATIENCE
    while sent.qsize() < 2:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)

    for n in range(1, 31):
        await happen(run)
        await hub_is_at(n)
    goes_on.set()
    frames = [await asyncio.wait_for(sent.get(), PATIENCE) for _ in range(4)]

    assert [frame["type"] for frame in frames] == [
        "websocket.accept",
        "websocket.send",
        "websocket.send",
        "websocket.close",
    ]
    assert (json.loads(frames[2]["text"])["id"], frames[3]["code"]) == (1, 4408)
    received.put_nowait({"type": "websocket.disconnect", "code": 4408})
    await asyncio.wait_for(serving, PATIENCE)

    again = await stream(ada, "?after=1")
    messages = await again.until("recovered")
    assert [message.get("id") for message in messages] == [*range(2, 31), None]


async def test_what_arrived_together_leaves_together(connect: Connect, ada: User, run: Run) -> None:
    socket = await connect(authorization=f"Bearer {await in_thread(token_of)(ada)}")
    await socket.next()

    await happen(*[run] * 3)

    frame = json.loads(await socket._wire.receive_from(timeout=PATIENCE))
    assert (frame["type"], [event["id"] for event in frame["events"]]) == ("events", [1, 2, 3])


async def test_a_client_that_leaves_is_forgotten(stream: Connect, ada: User) -> None:
    socket = await stream(ada)
    running = await hub.running_hub()
    assert running._index

    await socket.end()

    assert not running._index
