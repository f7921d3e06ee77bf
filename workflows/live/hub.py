"""The live hub: one per web process. It follows the log and passes each event to the clients that asked for it.

Redis is a hint. The hub knows the position that it has reached. It reads the table after a wake-up that leaves a gap,
after a silence, and when it may have been cut off from Redis. So an event that Redis loses is late by `QUIET` at most.
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
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone
from redis.exceptions import RedisError

from workflows.eventlog import audience, epochs, publication
from workflows.eventlog.audience import Audience, Key
from workflows.eventlog.publication import EVENTS, RIGHTS_CHANGED, Published
from workflows.live.wakes import LOST, Message, subscribed
from workflows.live.wire import Wire, text_frame

logger = logging.getLogger(__name__)

QUIET = 5.0  # seconds without a wake-up before the table is read
WITHOUT_REDIS = 1.0  # seconds between reads of the table while Redis is away
LONGEST_REST = 0.02  # seconds between two deliveries, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFilter:
    """Which events a client asks for. A field that is None lets all through.

    `allowed_workflow_ids` are the workflows that the client's API key or ticket is for.
    """

    user_id: int | None = None
    workflow_id: int | None = None
    run_id: str | None = None
    types: frozenset[str] | None = None
    allowed_workflow_ids: frozenset[int] | None = None

    def matches(self, event: Published) -> bool:
        return (
            (self.user_id is None or self.user_id == event.user_id)
            and (self.workflow_id is None or self.workflow_id == event.workflow_id)
            and (self.run_id is None or self.run_id == event.run_id)
            and (self.types is None or event.type in self.types)
            and (self.allowed_workflow_ids is None or event.workflow_id in self.allowed_workflow_ids)
        )

    def index_key(self) -> Hashable:
        """Return the narrowest key under which the hub indexes it."""
        if self.run_id is not None:
            return ("run", self.run_id)
        if self.workflow_id is not None:
            return ("workflow", self.workflow_id)
        return ("user", self.user_id) if self.user_id is not None else "everything"


@dataclass(frozen=True, slots=True)
class Control:
    """A frame that is not an event: an answer or a heartbeat.

    `resume_from` is the cursor after it: a reader whose connection ends here resumes from there. None if it is that of
    the frame before.
    """

    type: str
    frame: str
    resume_from: int | None = None


@dataclass(frozen=True)
class Bundle:
    """Events that leave together. Their frame is made once for all clients that get them."""

    events: Sequence[Published]

    @cached_property
    def frame(self) -> str:
        if len(self.events) == 1:
            return self.events[0].frame
        return f'{{"type":"events","events":[{",".join(event.frame for event in self.events)}]}}'

    @cached_property
    def encoded(self) -> bytes:
        """The frame as bytes for a `Wire`."""
        return text_frame(self.frame)


@dataclass(eq=False, slots=True)
class Client:
    """The hub's side of one stream: its reader, its filters, and the frames that are not sent yet.

    `size` is the length of the queue in characters. The sender calls `take()` until nothing is left. Then the client is
    idle, and the next frame calls `wake`.
    """

    user_id: int
    is_admin: bool
    filters: frozenset[StreamFilter]
    wire: Wire | None = None
    queue: list[Bundle | Control] = field(default_factory=list)
    size: int = 0
    overflowed: bool = False
    is_idle: bool = True
    wake: Callable[[], None] = lambda: None
    _becomes_idle: asyncio.Future[None] | None = None

    def may_see(self, event: Published, audiences: Mapping[Key, Audience]) -> bool:
        key = audience.key_of(event)
        if key is not None:
            its_audience = audiences.get(key)
            return its_audience is not None and its_audience.includes(user_id=self.user_id, is_admin=self.is_admin)
        return event.user_id is None or self.is_admin or event.user_id == self.user_id

    def asks_for(self, event: Published) -> bool:
        return any(one.matches(event) for one in self.filters)

    def put(self, item: Bundle | Control) -> None:
        """Queue a frame. A client that is too slow for its queue gets nothing more: it is closed and resumes.

        An empty queue takes a frame of any size. Otherwise a frame larger than a queue would never arrive.
        """
        self.size += len(item.frame)
        if self.queue and self.size > settings.STREAM_QUEUE_BYTES:
            self.overflowed = True
            self.queue.clear()
        elif not self.overflowed:
            self.queue.append(item)
        if self.is_idle:
            self.is_idle = False
            self.wake()

    def send(self, bundle: Bundle) -> None:
        """Write events at once if no frame waits before them and the client keeps up. Otherwise queue them."""
        if not (self.is_idle and self.wire and self.wire.write(bundle.encoded)):
            self.put(bundle)

    def take(self) -> list[Bundle | Control]:
        """Return everything that is queued. Call it again after sending, until it returns nothing."""
        taken, self.queue, self.size = self.queue, [], 0
        # A client that has overflowed is never idle again: nothing may be sent after the frames that it missed.
        if not taken and not self.overflowed:
            self.is_idle = True
            if self._becomes_idle and not self._becomes_idle.done():
                self._becomes_idle.set_result(None)
        return taken

    async def wait_until_idle(self) -> None:
        """Wait until everything that was queued has been sent. Only one task may wait at a time."""
        if not self.is_idle:
            self._becomes_idle = asyncio.get_running_loop().create_future()
            await self._becomes_idle


@dataclass(eq=False, slots=True)
class Group:
    """The clients with the same filters. Their part of a batch is selected and joined once for all of them."""

    filters: frozenset[StreamFilter]
    clients: set[Client] = field(default_factory=set)

    def asks_for(self, event: Published) -> bool:
        return any(one.matches(event) for one in self.filters)

    def put(self, events: Sequence[Published], audiences: Mapping[Key, Audience]) -> None:
        """Send each client those of these events that it may see. All of them match the group's filters."""
        guarded = [event for event in events if not _is_for_everyone(event, audiences)]
        bundles: dict[frozenset[int], Bundle] = {}
        for client in self.clients:
            hidden = frozenset([event.position for event in guarded if not client.may_see(event, audiences)])
            bundle = bundles.get(hidden)
            if bundle is None:
                bundle = bundles[hidden] = Bundle([event for event in events if event.position not in hidden])
            if bundle.events:
                client.send(bundle)


def _is_for_everyone(event: Published, audiences: Mapping[Key, Audience]) -> bool:
    key = audience.key_of(event)
    if key is None:
        return event.user_id is None
    its_audience = audiences.get(key)
    return its_audience is not None and its_audience.everyone


class Hub:
    """Follows the log after `start()`. Everything here runs on one event loop."""

    def __init__(self) -> None:
        self.position = 0
        self._groups: dict[frozenset[StreamFilter], Group] = {}
        self._index: defaultdict[Hashable, set[Group]] = defaultdict(set)
        self._audiences: dict[Key, Audience] = {}
        self._audiences_from = 0.0
        self._follower: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Begin to follow the log at its head. Does nothing if it follows already."""
        async with self._starting:
            if self._follower is None:
                self.position = await database_sync_to_async(_end_of_the_log)()
                # The task needs a context of its own. The context of the first request names a thread for queries,
                # and that thread ends with the request.
                self._follower = asyncio.create_task(self._follow(), name="live hub", context=Context())

    def add(self, client: Client) -> None:
        group = self._groups.get(client.filters)
        if group is None:
            group = self._groups[client.filters] = Group(client.filters)
            for one in group.filters:
                self._index[one.index_key()].add(group)
        group.clients.add(client)

    def remove(self, client: Client) -> None:
        group = self._groups.get(client.filters)
        if group is None:
            return
        group.clients.discard(client)
        if not group.clients:
            del self._groups[client.filters]
            for key in {one.index_key() for one in group.filters}:
                self._index[key].discard(group)
                if not self._index[key]:
                    del self._index[key]

    def forget_audiences(self) -> None:
        """Read the audiences again before the next event, because rights may have changed."""
        # Replaced, not emptied: a query that runs at this moment must not put its old answer back.
        self._audiences = {}
        self._audiences_from = asyncio.get_running_loop().time()

    async def audiences_of(self, events: Iterable[Published]) -> dict[Key, Audience]:
        """Return who may see these events. The answer is a heartbeat old at most, because a wake-up may be lost."""
        if asyncio.get_running_loop().time() > self._audiences_from + settings.STREAM_HEARTBEAT:
            self.forget_audiences()
        known = self._audiences
        missing = {key for event in events if (key := audience.key_of(event)) is not None} - known.keys()
        if missing:
            known |= await database_sync_to_async(audience.load_all)(missing)
        return known

    async def _follow(self) -> None:
        while True:
            try:
                await self._repair()
                async with subscribed() as wakes:
                    # Events from before the subscription are in the table.
                    await self._handle([{"type": LOST}])
                    while True:
                        await self._handle(await wakes.take(within=QUIET))
            except (RedisError, OSError) as exc:
                logger.warning("live hub reads the table: Redis is away", extra={"error": type(exc).__name__})
            except Exception:
                logger.exception("live hub failed and starts again")
            await asyncio.sleep(WITHOUT_REDIS)

    async def _handle(self, messages: Sequence[Message]) -> None:
        """Deliver the events of these messages. Read the table if there are none, or if some may be lost."""
        began = time.monotonic()
        types = {message["type"] for message in messages}
        if types & {RIGHTS_CHANGED, LOST}:
            self.forget_audiences()
        if LOST in types or not types:
            await self._repair()
        elif EVENTS in types:
            wake_ups = [message for message in messages if message["type"] == EVENTS]
            await self._take([event for message in wake_ups for event in publication.events_of_wake_up(message)])
        # The first event after a pause leaves at once. Under load, the rest leaves half of the time to other tasks, and
        # the events that come meanwhile leave together: the same events in fewer writes.
        await asyncio.sleep(min(time.monotonic() - began, LONGEST_REST))

    async def _take(self, events: list[Published]) -> None:
        """Deliver the events that continue from the position reached. Read the table if some are missing."""
        fresh = sorted((event for event in events if event.position > self.position), key=lambda e: e.position)
        if fresh and fresh[-1].position == self.position + len(fresh):
            await self._deliver(fresh)
        elif fresh:
            await self._repair()

    async def _repair(self) -> None:
        """Deliver all events after the position reached from the table."""
        try:
            self.position = await database_sync_to_async(publication.found_again)(self.position)
            while page := await database_sync_to_async(publication.read_after)(self.position):
                # The wake-ups of these events were lost. That of a later change of rights may be lost too.
                self.forget_audiences()
                await self._deliver(page)
        except DatabaseError:
            logger.exception("live hub cannot read the log")

    async def _deliver(self, events: Sequence[Published]) -> None:
        audiences = await self.audiences_of(events)
        matching: defaultdict[Group, list[Published]] = defaultdict(list)
        for event in events:
            for group in self._candidates(event):
                if group.asks_for(event):
                    matching[group].append(event)
        for group, its_events in matching.items():
            group.put(its_events, audiences)
        self.position = events[-1].position

    def _candidates(self, event: Published) -> set[Group]:
        keys = ("everything", ("user", event.user_id), ("workflow", event.workflow_id), ("run", event.run_id))
        return set().union(*(self._index[key] for key in keys if key in self._index))


def _end_of_the_log() -> int:
    epochs.notice_once(now=timezone.now())
    return publication.head()


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


async def running_hub() -> Hub:
    """Return the hub of this process, and start it at the first call. (Tests have one per event loop.)"""
    loop = asyncio.get_running_loop()
    hub = _hubs.setdefault(loop, Hub())
    await hub.start()
    return hub
