"""The live hub: one per web process. It follows the log and fans each event out to the clients that want it.

Redis is a hint. The hub knows the position it has reached; a wake-up that leaves a gap, silence, and every
(re)connection to Redis make it read the table, so what Redis loses is late by `QUIET` at most.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import redis.asyncio
from channels.db import database_sync_to_async
from django.conf import settings
from django.db import DatabaseError
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from workflows import audience, outbox
from workflows.audience import Audience
from workflows.outbox import Published
from workflows.wire import Wire, text_frame

logger = logging.getLogger(__name__)

QUIET = 5.0  # seconds without a wake-up before the table is read
WITHOUT_REDIS = 1.0  # seconds between reads of the table while Redis is away
LONGEST_REST = 0.02  # seconds between two deliveries
AT_ONCE = 100  # wake-ups that are delivered together


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a client asks for, within what its credentials are for; a field that is None does not narrow."""

    user_id: int | None = None
    workflow_id: int | None = None
    run_id: str | None = None
    types: frozenset[str] | None = None
    within: frozenset[int] | None = None

    def matches(self, event: Published) -> bool:
        return (
            (self.user_id is None or self.user_id == event.user_id)
            and (self.workflow_id is None or self.workflow_id == event.workflow_id)
            and (self.run_id is None or self.run_id == event.run_id)
            and (self.types is None or event.type in self.types)
            and (self.within is None or event.workflow_id in self.within)
        )

    def index_key(self) -> Hashable:
        """The narrowest place under which the hub files it."""
        if self.run_id is not None:
            return ("run", self.run_id)
        if self.workflow_id is not None:
            return ("workflow", self.workflow_id)
        return ("user", self.user_id) if self.user_id is not None else "everything"


@dataclass(frozen=True, slots=True)
class Control:
    """A frame that is no event: an answer, a heartbeat."""

    type: str
    frame: str


@dataclass(frozen=True)
class Bundle:
    """Events that leave together; their frame is made once for all who get them."""

    events: Sequence[Published]

    @cached_property
    def frame(self) -> str:
        if len(self.events) == 1:
            return self.events[0].frame
        return f'{{"type":"events","events":[{",".join(event.frame for event in self.events)}]}}'

    @cached_property
    def encoded(self) -> bytes:
        """The same as it goes over a wire."""
        return text_frame(self.frame)


@dataclass(eq=False, slots=True)
class Client:
    """One stream: who reads it, what they want, and what is not sent yet; `size` is the queue's in characters.

    Whoever sends takes until there is nothing more; then the client is idle, and `wake` is called for the next.
    """

    user_id: int
    is_admin: bool
    wanted: frozenset[Wanted]
    wire: Wire | None = None
    queue: list[Bundle | Control] = field(default_factory=list)
    size: int = 0
    overflown: bool = False
    is_idle: bool = True
    wake: Callable[[], None] = lambda: None
    _resting: asyncio.Future[None] | None = None

    def sees(self, event: Published, audiences: Mapping[int, Audience]) -> bool:
        if event.workflow_id is not None:
            seen_by = audiences.get(event.workflow_id)
            return seen_by is not None and seen_by.includes(user_id=self.user_id, is_admin=self.is_admin)
        return event.user_id is None or self.is_admin or event.user_id == self.user_id

    def wants(self, event: Published) -> bool:
        return any(wanted.matches(event) for wanted in self.wanted)

    def put(self, item: Bundle | Control) -> None:
        """Queue a frame. A client that is too slow for its queue gets no more: it is closed and resumes.

        An empty queue takes a frame of any size, or what is larger than a queue would never arrive.
        """
        self.size += len(item.frame)
        if self.queue and self.size > settings.STREAM_QUEUE_BYTES:
            self.overflown = True
            self.queue.clear()
        elif not self.overflown:
            self.queue.append(item)
        if self.is_idle:
            self.is_idle = False
            self.wake()

    def send(self, bundle: Bundle) -> None:
        """Write events at once if nothing is before them and the client keeps up; else queue them."""
        if not (self.is_idle and self.wire and self.wire.write(bundle.encoded)):
            self.put(bundle)

    def take(self) -> list[Bundle | Control]:
        """Return all that is queued; to be called again when it has been sent, until there is nothing."""
        taken, self.queue, self.size = self.queue, [], 0
        # A client that has overflown is never idle again: nothing may follow what it has missed.
        if not taken and not self.overflown:
            self.is_idle = True
            if self._resting and not self._resting.done():
                self._resting.set_result(None)
        return taken

    async def idle(self) -> None:
        """Wait until all that was queued has been sent; for one waiter at a time."""
        if not self.is_idle:
            self._resting = asyncio.get_running_loop().create_future()
            await self._resting


@dataclass(eq=False, slots=True)
class Group:
    """The clients that want the same: what they get of a batch is picked and joined once for all."""

    wanted: frozenset[Wanted]
    clients: set[Client] = field(default_factory=set)

    def wants(self, event: Published) -> bool:
        return any(wanted.matches(event) for wanted in self.wanted)

    def put(self, events: Sequence[Published], audiences: Mapping[int, Audience]) -> None:
        """Queue what each client may see of these events, all of which it wants."""
        guarded = [event for event in events if not _is_for_all(event, audiences)]
        bundles: dict[frozenset[int], Bundle] = {}
        for client in self.clients:
            hidden = frozenset([event.position for event in guarded if not client.sees(event, audiences)])
            bundle = bundles.get(hidden)
            if bundle is None:
                bundle = bundles[hidden] = Bundle([event for event in events if event.position not in hidden])
            if bundle.events:
                client.send(bundle)


def _is_for_all(event: Published, audiences: Mapping[int, Audience]) -> bool:
    if event.workflow_id is None:
        return event.user_id is None
    seen_by = audiences.get(event.workflow_id)
    return seen_by is not None and seen_by.everyone


class Hub:
    """Follows the log from `start()` on; everything here runs on one event loop."""

    def __init__(self) -> None:
        self.position = 0
        self._groups: dict[frozenset[Wanted], Group] = {}
        self._index: defaultdict[Hashable, set[Group]] = defaultdict(set)
        self._audiences: dict[int, Audience] = {}
        self._audiences_from = 0.0
        self._follower: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Begin to follow the log at its head, once."""
        async with self._starting:
            if self._follower is None:
                self.position = await database_sync_to_async(outbox.head)()
                # In a context of its own: that of the request which happens to be the first names a thread for
                # its queries, and the thread ends with the request.
                self._follower = asyncio.create_task(self._follow(), name="live hub", context=Context())

    def add(self, client: Client) -> None:
        group = self._groups.get(client.wanted)
        if group is None:
            group = self._groups[client.wanted] = Group(client.wanted)
            for wanted in group.wanted:
                self._index[wanted.index_key()].add(group)
        group.clients.add(client)

    def remove(self, client: Client) -> None:
        group = self._groups.get(client.wanted)
        if group is None:
            return
        group.clients.discard(client)
        if not group.clients:
            del self._groups[client.wanted]
            for key in {wanted.index_key() for wanted in group.wanted}:
                self._index[key].discard(group)
                if not self._index[key]:
                    del self._index[key]

    def forget_audiences(self) -> None:
        """Rights may have changed: ask again before the next event."""
        # Not emptied but replaced: who is asking at this moment must not put the old answer back.
        self._audiences = {}
        self._audiences_from = asyncio.get_running_loop().time()

    async def audiences_of(self, events: Iterable[Published]) -> dict[int, Audience]:
        """Who may see these events, as of a heartbeat ago at most: the word that rights have changed may be lost."""
        if asyncio.get_running_loop().time() > self._audiences_from + settings.STREAM_HEARTBEAT:
            self.forget_audiences()
        known = self._audiences
        missing = {e.workflow_id for e in events if e.workflow_id is not None} - known.keys()
        if missing:
            known |= await database_sync_to_async(audience.load)(missing)
        return known

    async def _follow(self) -> None:
        while True:
            try:
                await self._repair()
                await self._follow_redis()
            except (RedisError, OSError) as exc:
                logger.warning("live hub reads the table: Redis is away", extra={"error": type(exc).__name__})
            except Exception:
                logger.exception("live hub failed and starts again")
            await asyncio.sleep(WITHOUT_REDIS)

    async def _follow_redis(self) -> None:
        connection = redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=2)
        async with connection, connection.pubsub(ignore_subscribe_messages=True) as wakes:
            await wakes.subscribe(outbox.CHANNEL, outbox.ACCESS_CHANNEL)
            self.forget_audiences()
            await self._repair()
            while True:
                messages = await _arrived(wakes)
                if any(message["channel"].decode() == outbox.ACCESS_CHANNEL for message in messages):
                    self.forget_audiences()
                data = [message["data"] for message in messages if message["channel"].decode() == outbox.CHANNEL]
                if data or not messages:
                    began = time.monotonic()
                    await self._take([event for wake in data for event in outbox.parse_wake(wake)])
                    # The first event after a pause leaves at once. Under load this leaves half of the time to
                    # others, and what comes meanwhile leaves together: fewer writes for as many events.
                    await asyncio.sleep(min(time.monotonic() - began, LONGEST_REST))

    async def _take(self, events: list[Published]) -> None:
        """Deliver what follows on what has been delivered; where something is missing, the table has it."""
        fresh = sorted((event for event in events if event.position > self.position), key=lambda e: e.position)
        if fresh and fresh[-1].position == self.position + len(fresh):
            await self._deliver(fresh)
        elif fresh or not events:
            await self._repair()

    async def _repair(self) -> None:
        """Deliver from the table whatever lies beyond the position reached."""
        try:
            while page := await database_sync_to_async(outbox.read_after)(self.position):
                # What came without a word of Redis may have been followed by a change of rights without one.
                self.forget_audiences()
                await self._deliver(page)
        except DatabaseError:
            logger.exception("live hub can not read the log")

    async def _deliver(self, events: Sequence[Published]) -> None:
        audiences = await self.audiences_of(events)
        picked: defaultdict[Group, list[Published]] = defaultdict(list)
        for event in events:
            for group in self._candidates(event):
                if group.wants(event):
                    picked[group].append(event)
        for group, wanted in picked.items():
            group.put(wanted, audiences)
        self.position = events[-1].position

    def _candidates(self, event: Published) -> set[Group]:
        keys = ("everything", ("user", event.user_id), ("workflow", event.workflow_id), ("run", event.run_id))
        return set().union(*(self._index[key] for key in keys if key in self._index))


async def _arrived(wakes: PubSub) -> list[dict[str, Any]]:
    """Wait for a message, and take those along that have come with it; none after `QUIET` seconds."""
    messages = []
    message = await wakes.get_message(timeout=QUIET)
    while message is not None:
        messages.append(message)
        message = await wakes.get_message(timeout=0) if len(messages) < AT_ONCE else None
    return messages


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


async def running_hub() -> Hub:
    """The hub of this process, started on first use. (One per event loop: tests have several.)"""
    loop = asyncio.get_running_loop()
    hub = _hubs.setdefault(loop, Hub())
    await hub.start()
    return hub
