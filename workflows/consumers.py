"""The WebSocket streams: authenticate, answer what the client asks, and leave the events to the hub."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder

from accounts.authentication import refreshed
from accounts.identity import Caller
from workflows import outbox, stream_access, stream_messages
from workflows.api.serializers import status_of
from workflows.hub import Client, Hub, Wanted, running_hub
from workflows.stream_access import CloseError, NotSignedInError, UnknownError
from workflows.stream_messages import BadMessageError

SUBPROTOCOL = "svops.v1"
PROTOCOL = 1


def encode(frame: Mapping[str, Any]) -> str:
    return json.dumps(frame, cls=DjangoJSONEncoder, separators=(",", ":"))


class StreamConsumer(AsyncWebsocketConsumer):
    """One client's stream. `user_id` and `workflow_id` of the route narrow it."""

    hub: Hub
    caller: Caller
    client: Client
    route: Wanted

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_open = False
        self.is_closing = False
        self.is_replaying = False
        self._jobs: set[asyncio.Task[None]] = set()

    # --- Coming and going -----------------------------------------------------------------------------

    async def connect(self) -> None:
        # Accepted before it is judged: a browser does not see why a handshake was refused.
        await self.accept(SUBPROTOCOL if SUBPROTOCOL in self.scope["subprotocols"] else None)
        async with self._closing_on_error():
            caller = await stream_access.authenticate_request(self.scope)
            if caller:
                await self._open(caller)
            else:
                self._start(self._expect_auth())

    async def disconnect(self, code: int) -> None:
        self.is_closing = True
        for job in self._jobs:
            job.cancel()
        if self.is_open:
            self.hub.remove(self.client)

    async def _expect_auth(self) -> None:
        await asyncio.sleep(settings.STREAM_AUTH_TIMEOUT)
        if not self.is_open:
            await self._close(NotSignedInError.close_code)

    async def _open(self, caller: Caller) -> None:
        """Greet, then follow the hub from here on, or from `?after=`."""
        route = self.scope["url_route"]["kwargs"]
        await stream_access.check_route(caller, **route)
        self.hub = await running_hub()
        self.caller = caller
        self.route = Wanted(user_id=route.get("user_id"), workflow_id=route.get("workflow_id"))
        self.client = Client(user_id=caller.user.pk, is_admin=caller.user.is_superuser, wanted=frozenset({self.route}))
        self.is_open = True
        self.client.put(self._frame("connection.ready", heartbeat_s=settings.STREAM_HEARTBEAT, protocol=PROTOCOL))
        self._start(self._pump())
        self._start(self._beat())
        after = parse_qs(self.scope["query_string"].decode()).get("after")
        if after:
            await self._take_up({"after": after[0]})
        else:
            self.hub.add(self.client)

    def _frame(self, kind: str, **fields: Any) -> str:
        """A frame that tells the position the hub has reached."""
        return encode({"type": kind, "cursor": self.hub.position, **fields})

    def _start(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _close(self, code: int) -> None:
        if not self.is_closing:
            self.is_closing = True
            await self.close(code)

    @asynccontextmanager
    async def _closing_on_error(self) -> AsyncIterator[None]:
        try:
            yield
        except CloseError as exc:
            await self._close(exc.close_code)

    # --- Server to client -----------------------------------------------------------------------------

    async def _pump(self) -> None:
        """Send what is in the queue, all of it at a time."""
        while True:
            frames = await self.client.take()
            if self.client.overflown:
                await self._close(stream_access.TOO_SLOW)
                return
            for frame in frames:
                await self.send(text_data=frame)

    async def _beat(self) -> None:
        """Tell the head, and look again whether the client may still be here."""
        async with self._closing_on_error():
            while True:
                await asyncio.sleep(settings.STREAM_HEARTBEAT)
                caller = await database_sync_to_async(refreshed)(self.caller)
                if caller is None:
                    raise NotSignedInError("The session has ended.")
                await stream_access.check_route(caller, **self.scope["url_route"]["kwargs"])
                self.caller = caller
                self.client.is_admin = caller.user.is_superuser
                self.client.put(self._frame("heartbeat"))

    # --- Client to server -----------------------------------------------------------------------------

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self.is_closing:
            return
        async with self._closing_on_error():
            try:
                await self._answer(stream_messages.parse(text_data))
            except BadMessageError as exc:
                await self._reply("error", code=exc.code, detail=str(exc))

    async def _answer(self, message: dict[str, Any]) -> None:
        kind = str(message.get("type"))
        if not self.is_open:
            if kind != "auth":
                raise NotSignedInError("The first message has to be auth.")
            await self._open(await stream_access.authenticate(str(message.get("token", ""))))
            return
        if kind not in self._answers:
            raise BadMessageError(f"type: {kind!r} is unknown; expected one of {', '.join(sorted(self._answers))}.")
        await self._answers[kind](self, message)

    async def _reply(self, kind: str, **fields: Any) -> None:
        frame = encode({"type": kind, **fields})
        if self.is_open:
            self.client.put(frame)  # behind the events that are queued already
        else:
            await self.send(text_data=frame)

    async def _ping(self, message: dict[str, Any]) -> None:
        await self._reply("pong")

    async def _subscribe(self, message: dict[str, Any]) -> None:
        """Narrow the stream; several subscriptions add up, and the route's own bounds stay."""
        wanted = await self._wanted(message)
        all_wanted = self.client.wanted - {self.route} | {wanted}
        if len(all_wanted) > settings.STREAM_SUBSCRIPTIONS:
            raise BadMessageError(f"At most {settings.STREAM_SUBSCRIPTIONS} subscriptions on one stream.")
        self._want(all_wanted)
        await self._reply("subscribed", **stream_messages.echo(message))

    async def _unsubscribe(self, message: dict[str, Any]) -> None:
        """Take a subscription back; without any, the stream is its route's whole again."""
        wanted = await self._wanted(message)
        if wanted not in self.client.wanted:
            raise BadMessageError("There is no such subscription on this stream.")
        self._want(self.client.wanted - {wanted} or frozenset({self.route}))
        await self._reply("unsubscribed", **stream_messages.echo(message))

    @database_sync_to_async
    def _wanted(self, message: dict[str, Any]) -> Wanted:
        return stream_messages.wanted(message, route=self.route, user=self.caller.user)

    def _want(self, wanted: frozenset[Wanted]) -> None:
        self.hub.remove(self.client)
        self.client.wanted = wanted
        if not self.is_replaying:
            self.hub.add(self.client)

    async def _get_status(self, message: dict[str, Any]) -> None:
        await self._reply("status", **await self._status(message))

    @database_sync_to_async
    def _status(self, message: dict[str, Any]) -> dict[str, Any]:
        # The cursor is read first: what happens between the two is in both, never in neither.
        cursor = outbox.head()
        return {"cursor": cursor, **status_of(stream_messages.visible_run(message, self.caller.user))}

    async def _take_up(self, message: dict[str, Any]) -> None:
        after = stream_messages.cursor(message.get("after"))
        if self.is_replaying:
            raise BadMessageError("A replay is under way already.")
        self.hub.remove(self.client)
        self.is_replaying = True
        self._start(self._replay(after))

    async def _replay(self, after: int) -> None:
        """Send the log after a cursor, then follow: whole, or refused with the reason."""
        reached = after
        refusal = (
            "the cursor is beyond the end of the log" if after > await database_sync_to_async(outbox.head)() else ""
        )
        while not refusal and reached < self.hub.position:
            reached = await self._replay_page(reached)
            await self.client.drained.wait()
        # No await from here on: between the last comparison and joining the hub nothing can fall.
        outcome = {"recovered": False, "reason": refusal} if refusal else {"recovered": True}
        self.client.put(encode({"type": "recovered", **outcome, "from": after, "to": reached}))
        self.is_replaying = False
        self.hub.add(self.client)

    async def _replay_page(self, after: int) -> int:
        """Queue one page of the log, as far as the hub has come; the position reached."""
        page = await database_sync_to_async(outbox.read_after)(after)
        audiences = await self.hub.audiences_of(page)
        page = [event for event in page if event.position <= self.hub.position]
        for event in page:
            if self.client.sees(event, audiences) and self.client.wants(event):
                self.client.put(event)
        return page[-1].position if page else after

    _answers: ClassVar[dict[str, Callable[[StreamConsumer, dict[str, Any]], Awaitable[None]]]] = {
        "ping": _ping,
        "subscribe": _subscribe,
        "unsubscribe": _unsubscribe,
        "get_status": _get_status,
        "resume": _take_up,
    }


class UnknownStreamConsumer(AsyncWebsocketConsumer):
    """Answers a path that is no stream."""

    async def connect(self) -> None:
        await self.accept()
        await self.close(UnknownError.close_code)
