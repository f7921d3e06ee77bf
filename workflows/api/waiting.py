"""Answers that wait for the end of a run: `GET …/wait`, and `Prefer: wait=30` on a trigger.

The view answers at once, as it does to everybody. `Waiting` holds that answer back, outside of Django: so a wait takes
no thread, no turn and no connection to the database. It hears of the end from the hub, as a stream does, and has the
limits of a stream. Airflow is not asked.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import Any
from uuid import UUID

from django.conf import settings
from django_guid import set_guid
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import refreshed
from accounts.identity import Caller
from accounts.permissions import current_caller
from rest import stopping
from rest.error_responses import response_to
from rest.errors import SVOpsError
from workflows.api.run_serializers import RunDetailSerializer
from workflows.lifecycle import results
from workflows.live.hub import StreamFilter
from workflows.live.lanes import ANSWERING, on_lane
from workflows.live.stream import Stream
from workflows.models import ResultState, Run

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

KEY = "svops.wait"
ENDS = frozenset({"workflow.completed", "workflow.failed", "workflow.stopped", "workflow.result"})
PREFERENCE = re.compile(r"\s*wait\s*=\s*\"?([0-9]{1,9})\"?\s*(?:;.*)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Wait:
    """What a request waits for. `unwaited` is the status of its answer if it may not wait; None: then it is refused."""

    run_id: UUID
    caller: Caller
    seconds: int
    unwaited: HTTPStatus | None
    extra: Mapping[str, Any] = field(default_factory=dict)


def preferred(header: str) -> int | None:
    """Return how many seconds a `Prefer` header asks to wait. What cannot be read is no preference (RFC 7240)."""
    for preference in header.split(","):
        if match := PREFERENCE.fullmatch(preference):
            return min(int(match[1]), settings.WAIT_MAX)
    return None


def answer(
    request: Request,
    run: Run,
    *,
    seconds: int,
    unwaited: HTTPStatus | None = None,
    extra: Mapping[str, Any] = MappingProxyType({}),
) -> Response:
    """Answer 200 with a run that has ended; else 202, which `Waiting` holds back. `extra` is beside the run."""
    data = {**RunDetailSerializer(run).data, **extra}
    if _is_over(run):
        return Response(data)
    scope = getattr(request._request, "scope", None)
    if seconds and scope is not None:
        scope[KEY] = Wait(
            run_id=run.pk, caller=current_caller(request), seconds=seconds, unwaited=unwaited, extra=extra
        )
    location = f"/api/v1/workflows/{run.workflow_id}/runs/{run.pk}"
    return Response(data, status=HTTPStatus.ACCEPTED, headers={"Location": location})


def _is_over(run: Run) -> bool:
    """Return whether the run has ended and its result does not have to be read any more."""
    return run.is_terminal and results.shown(run)["state"] != ResultState.PENDING


class Waiting:
    """Wraps Django. Holds back the answer to a request that waits, until the run has ended or the time is over."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        held: list[Message] = []

        async def hold(message: Message) -> None:
            if KEY in scope:
                held.append(message)
            else:
                await send(message)

        await self._application(scope, receive, hold)
        wait: Wait | None = scope.get(KEY)
        if wait is None or not held:
            return
        try:
            ended = await _unless_gone(receive, _end_of(wait)) if _is_json(held[0]) else None
        except _GoneError:
            return
        except SVOpsError as exc:
            held = _unwaited(held, wait, exc)
        else:
            held = held if ended is None else _replaced(held, HTTPStatus.OK, ended)
        for message in held:
            await send(message)


class _GoneError(Exception):
    """The client has gone."""


async def _unless_gone(receive: Receive, waiting: Coroutine[Any, Any, bytes | None]) -> bytes | None:
    """Return what the waiting returns. It ends when the client goes: `_GoneError`."""
    ending, going = asyncio.create_task(waiting), asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait({ending, going}, return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            raise _GoneError
        return ending.result()
    finally:
        for task in (ending, going):
            task.cancel()
            with suppress(asyncio.CancelledError, SVOpsError):
                await task


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def _end_of(wait: Wait) -> bytes | None:
    """Return the body for the ended run, or None if the time is over first. Raises as `Stream.open` does."""
    stream = await Stream.open(wait.caller, StreamFilter(run_id=str(wait.run_id), types=ENDS))
    woken = asyncio.Event()
    stream.client.wake = woken.set
    stopping.at_stop.add(woken.set)
    now = asyncio.get_running_loop().time
    ends, beat_at = now() + wait.seconds, now() + settings.STREAM_HEARTBEAT
    try:
        # Before the first look: what ends between the two is heard.
        stream.follow()
        while True:
            async with stream.share.turn():
                body = await _body_if_over(stream.caller, wait)
            if body is not None or now() >= ends or stopping.has_begun():
                return body
            with suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), max(0, min(ends, beat_at) - now()))
            woken.clear()
            if now() >= beat_at:
                await stream.beat()
                beat_at = now() + settings.STREAM_HEARTBEAT
            while stream.client.take():
                continue
    finally:
        stopping.at_stop.discard(woken.set)
        stream.close()


@on_lane(ANSWERING)
def _body_if_over(caller: Caller, wait: Wait) -> bytes | None:
    """Return the run as the API answers it, if it is over; None also if the caller sees it no longer."""
    present = refreshed(caller)
    if present is None:
        return None
    runs = Run.objects.visible_to(present.user).filter(pk=wait.run_id).with_work()
    run = runs.select_related("workflow", "user", "result").prefetch_related("attempts").first()
    if run is None or not _is_over(run):
        return None
    body: bytes = JSONRenderer().render({**RunDetailSerializer(run).data, **wait.extra})
    return body


def _is_json(start: Message) -> bool:
    return any(name.lower() == b"content-type" and b"json" in value for name, value in start["headers"])


def _unwaited(held: list[Message], wait: Wait, exc: SVOpsError) -> list[Message]:
    """Return the answer of a request that may not wait. What it has done stays done."""
    start = held[0]
    if wait.unwaited is not None:
        headers = [(name, value) for name, value in start["headers"] if name.lower() != b"preference-applied"]
        return [{**start, "status": wait.unwaited, "headers": headers}, *held[1:]]
    set_guid(dict(start["headers"]).get(b"X-Request-ID", b"").decode())
    refusal = response_to(exc)
    more = [(name.encode(), refusal[name].encode()) for name in ("Retry-After", "WWW-Authenticate") if name in refusal]
    return _replaced(held, HTTPStatus(refusal.status_code), refusal.content, more)


def _replaced(
    held: list[Message], status: HTTPStatus, body: bytes, more: list[tuple[bytes, bytes]] | None = None
) -> list[Message]:
    """Return the held answer with another status and body."""
    replaced = {b"content-length", b"etag"} | {name.lower() for name, _ in more or []}
    headers = [(name, value) for name, value in held[0]["headers"] if name.lower() not in replaced]
    headers += [(b"Content-Length", str(len(body)).encode()), *(more or [])]
    return [{**held[0], "status": status, "headers": headers}, {"type": "http.response.body", "body": body}]
