"""The client's end of a stream, and events that happen while it listens."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from functools import cache
from typing import Any, get_type_hints

from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.db import connection, transaction
from django.test import Client as Browser
from jsonschema import Draft202012Validator

from accounts.models import User
from svops.asgi import application
from workflows.api.stream_schema import shape
from workflows.eventlog import events, publication
from workflows.live import hub
from workflows.live.frames import FRAMES
from workflows.models import Event, LogHead, Run
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import NOW

PATIENCE = 20


def in_thread(work: Callable[..., Any]) -> Callable[..., Any]:
    """Return `work` as a coroutine that uses the database in a thread."""

    def run_and_close(*args: Any, **kwargs: Any) -> Any:
        try:
            return work(*args, **kwargs)
        finally:
            connection.close()

    return sync_to_async(run_and_close)


@in_thread
def happen(*runs: Run | None) -> list[int]:
    """Record an event of each run (or of no run) in one transaction. Return their positions."""
    with transaction.atomic():
        made = [events.record(_data(run), now=NOW, run=run) for run in runs]
    found = Event.objects.in_bulk([event.pk for event in made])
    return [found[event.pk].position or 0 for event in made]


def _data(run: Run | None) -> events.EventData:
    if run is None:
        return events.AirflowUp(airflow=DEFAULT, version="3.3.2")
    return events.WorkflowStarted(airflow=DEFAULT, state=RunState.RUNNING, attempt=1, started_at=NOW)


class Socket:
    """The client's end of a stream."""

    def __init__(self, path: str, **headers: str) -> None:
        protocols = [part for part in headers.pop("protocols", "").split() if part]
        sent = {"host": "localhost", **headers}
        raw = [(name.encode(), value.encode()) for name, value in sent.items()]
        self._wire = WebsocketCommunicator(application, f"/api/v1/ws{path}", headers=raw, subprotocols=protocols)
        self._waiting: list[dict[str, Any]] = []

    async def open(self) -> str | None:
        """Shake hands. Return the sub-protocol."""
        accepted, protocol = await self._wire.connect(timeout=PATIENCE)
        assert accepted
        return protocol if isinstance(protocol, str) else None

    async def say(self, message: Any) -> None:
        await self._wire.send_to(text_data=message if isinstance(message, str) else json.dumps(message))

    async def say_bytes(self, data: bytes) -> None:
        await self._wire.send_to(bytes_data=data)

    async def next(self) -> dict[str, Any]:
        """Return the next message. A frame of several events counts as several messages."""
        if not self._waiting:
            frame = json.loads(await self._wire.receive_from(timeout=PATIENCE))
            check(frame)
            self._waiting = frame["events"] if frame["type"] == "events" else [frame]
        return self._waiting.pop(0)

    async def ask(self, message: Any) -> dict[str, Any]:
        await self.say(message)
        return await self.next()

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """Return all messages up to the next of this type."""
        messages = [await self.next()]
        while messages[-1]["type"] != kind:
            messages.append(await self.next())
        return messages

    async def delivered(self) -> list[int]:
        """Return the positions of all events that were sent until the hub reached the end of the log."""
        await hub_is_at(await in_thread(publication.head)())
        await self.say({"type": "ping"})
        return [message["id"] for message in await self.until("pong") if "id" in message]

    async def closed(self) -> int:
        """Return the code with which the server closes. Skip the events before."""
        return (await self.ending())[0]

    async def ending(self) -> tuple[int, str]:
        """Return code and reason with which the server closes. Skip the events before."""
        while True:
            output = await self._wire.receive_output(timeout=PATIENCE)
            if output["type"] == "websocket.close":
                return int(output["code"]), output.get("reason", "")

    async def end(self) -> None:
        await self._wire.disconnect(timeout=PATIENCE)


async def hub_is_at(position: int) -> None:
    deadline = time.monotonic() + PATIENCE
    running = await hub.running_hub()
    while running.position < position:
        assert time.monotonic() < deadline, (running.position, position)
        await asyncio.sleep(0.01)


@cache
def _validator(kind: str) -> Draft202012Validator:
    [found] = [frame for frame in FRAMES if get_type_hints(frame)["type"].__args__ == (kind,)]
    return Draft202012Validator({**shape(found), "additionalProperties": False})


def check(frame: dict[str, Any]) -> None:
    """Check that a frame of the server has exactly the fields that are described."""
    if "id" not in frame and frame["type"] not in {"status", "events"}:
        _validator(frame["type"]).validate(frame)


Connect = Callable[..., Any]


@in_thread
def cookie_of(user: User) -> str:
    browser = Browser()
    browser.force_login(user)
    return f"sessionid={browser.cookies['sessionid'].value}"


@in_thread
def publish_silently(run: Run, count: int) -> None:
    """Create events with positions, and send no wake-up."""
    head = publication.head()
    for n in range(1, count + 1):
        seq = Event.objects.filter(run=run).count() + 1
        Run.objects.filter(pk=run.pk).update(event_count=seq)
        common = {"run": run, "workflow_id": run.workflow_id, "user_id": run.user_id, "timestamp": NOW}
        Event.objects.create(position=head + n, seq=seq, type="workflow.started", **common)
    LogHead.objects.update_or_create(pk=1, defaults={"position": head + count})
