"""The WebSocket streams: authenticate, answer what the client asks, and leave the events to the hub."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from accounts.identity import Caller
from svops.errors import TooManyRequestsError
from workflows import outbox, stream_access, stream_messages, wire
from workflows.api.serializers import status_of
from workflows.hub import Wanted
from workflows.stream import Stream, encode
from workflows.stream_access import CloseError, NotSignedInError, UnknownError
from workflows.stream_messages import BadMessageError

logger = logging.getLogger(__name__)

SUBPROTOCOL = "svops.v1"
PROTOCOL = 1


class StreamConsumer(AsyncWebsocketConsumer):
    """One client's stream. `user_id` and `workflow_id` of the route bound it."""

    # Events come from the hub: a channel of one's own in Redis would be a reader for nothing.
    channel_layer_alias = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stream: Stream | None = None
        self.is_closing = False
        self._jobs: set[asyncio.Task[None]] = set()
        self._next_beat: asyncio.TimerHandle | None = None

    # --- Coming and going -----------------------------------------------------------------------------

    async def connect(self) -> None:
        # Accepted before it is judged: a browser does not see why a handshake was refused.
        await self.accept(_subprotocol(self.scope))
        async with self._closing_on_error():
            caller = await stream_access.authenticate_scope(self.scope)
            if caller:
                await self._open(caller)
            else:
                self._start(self._expect_auth())

    async def disconnect(self, code: int) -> None:
        self.is_closing = True
        for job in self._jobs:
            job.cancel()
        if self._next_beat:
            self._next_beat.cancel()
        if self.stream:
            self.stream.close()

    async def _expect_auth(self) -> None:
        await asyncio.sleep(settings.STREAM_AUTH_TIMEOUT)
        if self.stream is None:
            await self._close(NotSignedInError.close_code)

    async def _open(self, caller: Caller) -> None:
        """Greet, then follow the log from here on, or from `?after=`."""
        self.stream = stream = await Stream.open(caller, Wanted(**self.scope["url_route"]["kwargs"]))
        stream.client.wire = wire.of_scope(self.scope)
        stream.client.wake = lambda: self._start(self._pump(stream))
        stream.put(
            "connection.ready",
            cursor=stream.hub.position,
            heartbeat_s=settings.STREAM_HEARTBEAT,
            protocol=PROTOCOL,
        )
        # Spread: clients that come back together would have their rights looked at together, time after time.
        self._beat_in(settings.STREAM_HEARTBEAT * random.uniform(0.2, 1), stream)  # noqa: S311 - chance, no secret
        wire.forget_handshake(self.scope)
        after = parse_qs(self.scope["query_string"].decode()).get("after")
        if after:
            await self._answering({"type": "resume", "after": after[0]})
        if not stream.is_resuming:
            stream.follow()

    def _start(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guarded(job))
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _guarded(self, job: Coroutine[Any, Any, None]) -> None:
        """Run a job. One that fails ends the stream, which without it would be silent, or watched by nobody."""
        try:
            async with self._closing_on_error():
                await job
        except Exception:
            if not self.is_closing:
                logger.exception("a stream ends on an error")
                await self._close(CloseError.close_code)

    async def _close(self, code: int) -> None:
        if not self.is_closing:
            self.is_closing = True
            if self.stream:
                self.stream.close()
            await self.close(code)

    @asynccontextmanager
    async def _closing_on_error(self) -> AsyncIterator[None]:
        try:
            yield
        except CloseError as exc:
            await self._close(exc.close_code)
        except TooManyRequestsError as exc:
            refusal = {"code": exc.code, "detail": str(exc), "retry_after": exc.retry_after}
            await self.send(text_data=encode({"type": "error", **refusal}))
            await self._close(stream_access.TOO_MANY)

    # --- Server to client -----------------------------------------------------------------------------

    # An idle stream has no task of its own, only a timer: thousands of them wait here.

    async def _pump(self, stream: Stream) -> None:
        """Send what is in the queue, until there is nothing."""
        # ASGI's word for a client that has gone is OSError; disconnect() follows.
        with suppress(OSError):
            while items := stream.client.take():
                for item in items:
                    if not self.is_closing:
                        await self.send(text_data=item.frame)
        if stream.client.overflown:
            await self._close(stream_access.TOO_SLOW)

    def _beat_in(self, seconds: float, stream: Stream) -> None:
        self._next_beat = asyncio.get_running_loop().call_later(seconds, lambda: self._start(self._beat(stream)))

    async def _beat(self, stream: Stream) -> None:
        await stream.beat()
        if not self.is_closing:
            self._beat_in(settings.STREAM_HEARTBEAT, stream)

    # --- Client to server -----------------------------------------------------------------------------

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if not self.is_closing:
            async with self._closing_on_error():
                await self._answering(text_data)

    async def _answering(self, message: dict[str, Any] | str | None) -> None:
        try:
            await self._answer(message if isinstance(message, dict) else stream_messages.parse(message))
        except BadMessageError as exc:
            error = {"code": exc.code, "detail": str(exc)}
            if self.stream:
                self.stream.put("error", **error)
            else:
                await self.send(text_data=encode({"type": "error", **error}))

    async def _answer(self, message: dict[str, Any]) -> None:
        kind = str(message.get("type"))
        if self.stream is None:
            if kind != "auth":
                raise NotSignedInError("The first message has to be auth.")
            await self._open(await stream_access.authenticate(str(message.get("token", ""))))
            return
        if kind not in self._answers:
            expected = ", ".join(sorted(self._answers))
            raise BadMessageError(f"type: {kind!r} is unknown; expected one of {expected}.")
        await self._answers[kind](self, self.stream, message)

    async def _ping(self, stream: Stream, message: dict[str, Any]) -> None:
        stream.put("pong")

    async def _subscribe(self, stream: Stream, message: dict[str, Any]) -> None:
        """Narrow the stream; several subscriptions add up, and the route's own bounds stay."""
        wanted = await _wanted(stream, message)
        everything = stream.client.wanted - {stream.route} | {wanted}
        if len(everything) > settings.STREAM_SUBSCRIPTIONS:
            raise BadMessageError(f"At most {settings.STREAM_SUBSCRIPTIONS} subscriptions on one stream.")
        stream.want(everything)
        stream.put("subscribed", **stream_messages.echo(message))

    async def _unsubscribe(self, stream: Stream, message: dict[str, Any]) -> None:
        """Take a subscription back; without any, the stream is its route's whole again."""
        wanted = await _wanted(stream, message)
        if wanted not in stream.client.wanted:
            raise BadMessageError("There is no such subscription on this stream.")
        stream.want(stream.client.wanted - {wanted} or frozenset({stream.route}))
        stream.put("unsubscribed", **stream_messages.echo(message))

    async def _get_status(self, stream: Stream, message: dict[str, Any]) -> None:
        stream.put("status", **await _status(stream, message))

    async def _resume(self, stream: Stream, message: dict[str, Any]) -> None:
        after = stream_messages.cursor(message.get("after"))
        if stream.is_resuming:
            raise BadMessageError("A replay is under way already.")
        stream.is_resuming = True
        self._start(stream.replay(after))

    _answers: ClassVar[dict[str, Callable[[StreamConsumer, Stream, dict[str, Any]], Awaitable[None]]]] = {
        "ping": _ping,
        "subscribe": _subscribe,
        "unsubscribe": _unsubscribe,
        "get_status": _get_status,
        "resume": _resume,
    }


@database_sync_to_async
def _wanted(stream: Stream, message: dict[str, Any]) -> Wanted:
    return stream_messages.wanted(message, route=stream.route, user=stream.caller.user)


@database_sync_to_async
def _status(stream: Stream, message: dict[str, Any]) -> dict[str, Any]:
    # The cursor is read first: what happens between the two is in both, never in neither.
    cursor = outbox.head()
    return {"cursor": cursor, **status_of(stream_messages.visible_run(message, stream.caller.user))}


class UnknownStreamConsumer(AsyncWebsocketConsumer):
    """Answers a path that is no stream."""

    async def connect(self) -> None:
        await self.accept(_subprotocol(self.scope))
        await self.close(UnknownError.close_code)


def _subprotocol(scope: Mapping[str, Any]) -> str | None:
    """Ours, if it is offered: a browser breaks off when it offers some and none is taken."""
    return SUBPROTOCOL if SUBPROTOCOL in scope["subprotocols"] else None
