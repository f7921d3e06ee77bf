"""The WebSocket streams: authenticate clients and answer their messages. The hub delivers the events."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar

from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from accounts.identity import Caller
from rest.errors import TooManyRequestsError
from workflows.api.run_serializers import StatusSerializer
from workflows.eventlog import publication
from workflows.live import admission, door, messages, wire
from workflows.live.admission import BadUrlError, CloseError, NotSignedInError, UnknownError
from workflows.live.hub import StreamFilter
from workflows.live.lanes import ANSWERING, on_lane
from workflows.live.messages import BadMessageError
from workflows.live.stream import Stream, encode

logger = logging.getLogger(__name__)

SUBPROTOCOL = "svops.v1"
PROTOCOL = 1
LONGEST_REASON = 123  # bytes of a close frame, beside the code


class StreamConsumer(AsyncWebsocketConsumer):
    """One client's stream. `user_id` and `workflow_id` in its URL limit it."""

    # Events come from the hub, so a consumer needs no channel on the layer.
    channel_layer_alias = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stream: Stream | None = None
        self.is_closing = False
        self._after: str | None = None
        self._jobs: set[asyncio.Task[None]] = set()
        self._next_beat: asyncio.TimerHandle | None = None

    # --- Coming and going -----------------------------------------------------------------------------

    async def connect(self) -> None:
        # Accepted first, because a browser does not see why a handshake was refused.
        await self.accept(_subprotocol(self.scope))
        async with self._closing_on_error():
            self._after = (query := admission.query_of(self.scope)).get("after")
            async with door.entrance(self.scope):
                caller = await admission.authenticate_scope(self.scope, ticket=query.get("ticket"))
                if caller:
                    await self._open(caller)
            if not caller:
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
            await self._close(NotSignedInError.close_code, f"No sign-in within {settings.STREAM_AUTH_TIMEOUT:g} s.")

    async def _open(self, caller: Caller) -> None:
        """Send the greeting, then follow the log from now on, or from `?after=`."""
        self.stream = stream = await Stream.open(caller, StreamFilter(**self.scope["url_route"]["kwargs"]))
        door.signed_in(self.scope)
        stream.client.wire = wire.of_scope(self.scope)
        stream.client.wake = lambda: self._start(self._pump(stream))
        stream.put(
            "connection.ready",
            cursor=stream.hub.position,
            heartbeat_s=settings.STREAM_HEARTBEAT,
            protocol=PROTOCOL,
        )
        # Spread by chance. Otherwise clients that reconnect together would be checked together at every heartbeat.
        self._beat_in(settings.STREAM_HEARTBEAT * random.uniform(0.2, 1), stream)  # noqa: S311 - chance, no secret
        wire.forget_handshake(self.scope)
        if self._after is not None:
            await self._answering({"type": "resume", "after": self._after})
        if not stream.is_resuming:
            stream.follow()

    def _start(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guarded(job))
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _guarded(self, job: Coroutine[Any, Any, None]) -> None:
        """Run a job. If it fails, end the stream: without the job it would be silent or never checked again."""
        try:
            async with self._closing_on_error():
                await job
        except Exception:
            if not self.is_closing:
                logger.exception("a stream ends on an error")
                await self._close(CloseError.close_code, "Something went wrong on our side; reconnect and resume.")

    async def _close(self, code: int, reason: str) -> None:
        if not self.is_closing:
            self.is_closing = True
            if self.stream:
                self.stream.close()
            await self.close(code, _fitting(reason))

    @asynccontextmanager
    async def _closing_on_error(self) -> AsyncIterator[None]:
        try:
            yield
        except BadUrlError as exc:
            await self.send(text_data=encode({"type": "error", "code": exc.code, "detail": str(exc)}))
            await self._close(exc.close_code, str(exc))
        except CloseError as exc:
            await self._close(exc.close_code, str(exc))
        except TooManyRequestsError as exc:
            refusal = {"code": exc.code, "detail": str(exc), "retry_after": exc.retry_after}
            await self.send(text_data=encode({"type": "error", **refusal}))
            await self._close(admission.TOO_MANY, str(exc))

    # --- Server to client -----------------------------------------------------------------------------

    # An idle stream has no task of its own, only a timer: thousands of them wait here.

    async def _pump(self, stream: Stream) -> None:
        """Send the queue until it is empty."""
        # ASGI raises OSError if the client has gone. disconnect() follows.
        with suppress(OSError):
            while items := stream.client.take():
                for item in items:
                    if not self.is_closing:
                        await self.send(text_data=item.frame)
        if stream.client.overflowed:
            await self._close(admission.TOO_SLOW, "Too slow for the queue: reconnect and resume from your cursor.")

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
            await self._answer(message if isinstance(message, dict) else messages.parse(message))
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
                raise NotSignedInError("The first message must be auth.")
            async with door.entrance(self.scope):
                await self._open(await admission.authenticate(str(message.get("token", ""))))
            return
        self.stream.count_message()
        if kind not in self._answers:
            expected = ", ".join(sorted(self._answers))
            raise BadMessageError(f"type: {kind!r} is unknown; expected one of {expected}.")
        await self._answers[kind](self, self.stream, message)

    async def _ping(self, stream: Stream, message: dict[str, Any]) -> None:
        stream.put("pong")

    async def _subscribe(self, stream: Stream, message: dict[str, Any]) -> None:
        """Narrow the stream. Several subscriptions add up, within the filter of the URL."""
        async with stream.share.turn():
            subscription = await _subscription(stream, message)
        filters = stream.client.filters - {stream.url_filter} | {subscription}
        if len(filters) > settings.STREAM_SUBSCRIPTIONS:
            raise BadMessageError(f"At most {settings.STREAM_SUBSCRIPTIONS} subscriptions on one stream.")
        stream.set_filters(filters)
        stream.put("subscribed", **messages.echo(message))

    async def _unsubscribe(self, stream: Stream, message: dict[str, Any]) -> None:
        """End a subscription. Without any, the stream has all events of its URL again."""
        async with stream.share.turn():
            subscription = await _subscription(stream, message)
        if subscription not in stream.client.filters:
            raise BadMessageError("There is no such subscription on this stream.")
        stream.set_filters(stream.client.filters - {subscription} or frozenset({stream.url_filter}))
        stream.put("unsubscribed", **messages.echo(message))

    async def _get_status(self, stream: Stream, message: dict[str, Any]) -> None:
        async with stream.share.turn():
            status = await _status(stream, message)
        stream.put("status", **status)

    async def _resume(self, stream: Stream, message: dict[str, Any]) -> None:
        after = messages.cursor(message.get("after"))
        if stream.is_resuming:
            raise BadMessageError("A replay is running already.")
        stream.is_resuming = True
        self._start(stream.replay(after))

    async def _renew(self, stream: Stream, message: dict[str, Any]) -> None:
        """Take newer credentials in place of those that expire. The stream goes on without a gap."""
        try:
            async with stream.share.turn():
                caller = await admission.authenticate(str(message.get("token", "")))
            stream.renew(caller, asked=StreamFilter(**self.scope["url_route"]["kwargs"]))
        except CloseError as exc:
            raise BadMessageError(f"token: {exc}") from exc
        stream.put("authenticated", expires_at=caller.expires_at)

    _answers: ClassVar[dict[str, Callable[[StreamConsumer, Stream, dict[str, Any]], Awaitable[None]]]] = {
        "ping": _ping,
        "auth": _renew,
        "subscribe": _subscribe,
        "unsubscribe": _unsubscribe,
        "get_status": _get_status,
        "resume": _resume,
    }


@on_lane(ANSWERING)
def _subscription(stream: Stream, message: dict[str, Any]) -> StreamFilter:
    return messages.subscription(message, url_filter=stream.url_filter, user=stream.caller.user)


@on_lane(ANSWERING)
def _status(stream: Stream, message: dict[str, Any]) -> dict[str, Any]:
    # The cursor is read first: an event between the two reads is in both, never in neither.
    cursor = publication.head()
    run = messages.visible_run(message, stream.caller.user)
    return {"cursor": cursor, **StatusSerializer(run).data}


class UnknownStreamConsumer(AsyncWebsocketConsumer):
    """Closes connections to paths that are not streams."""

    async def connect(self) -> None:
        await self.accept(_subprotocol(self.scope))
        await self.close(UnknownError.close_code, "There is no stream at this address.")


def _fitting(reason: str) -> str:
    """Return as much of a sentence as a close frame holds (RFC 6455, 5.5)."""
    return reason.encode()[:LONGEST_REASON].decode(errors="ignore")


def _subprotocol(scope: Mapping[str, Any]) -> str | None:
    """Return ours if the client offers it. A browser that offers sub-protocols disconnects if none is taken."""
    return SUBPROTOCOL if SUBPROTOCOL in scope["subprotocols"] else None
