"""What the channel layer brings to this process: new events, changes of rights, and that messages may be lost.

A layer reconnects to Redis by itself and does not report it. So the processes keep the group of the log from being
silent: one that hears nothing for a moment sends a pulse to all. A process that hears no pulse either is cut off.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from workflows.eventlog import publication
from workflows.eventlog.layer import channel_layer

logger = logging.getLogger(__name__)

PULSE = 0.4  # seconds of silence after which a process sends a pulse, at most
# Seconds of silence after which messages may be lost. After an error, channels_redis' pub/sub layer listens again
# after one second at the earliest, so no reconnection is shorter than this.
CUT_OFF = 0.9
REPORT_EVERY = 1.0  # seconds between two reports of a loss while the silence lasts
PATIENCE = 5.0  # seconds in which the layer has to subscribe
AT_ONCE = 100  # messages that are taken together
LARGEST_BACKLOG = 1_000  # messages that may wait; the table has them too

PULSES = "pulse"
LOST = "lost"

Message = Mapping[str, Any]


class Wakes:
    """The messages on one channel of the layer; everything here runs on one event loop."""

    def __init__(self, layer: Any, channel: str) -> None:
        self._layer = layer
        self._channel = channel
        self._clock = asyncio.get_running_loop().time
        self._heard_at = self._lost_at = self._clock()
        self._is_cut_off = False
        self._waiting: list[Message] = []
        self._woken = asyncio.Event()
        self._jobs = [asyncio.create_task(job, name="wakes") for job in (self._listen(), self._watch())]
        for job in self._jobs:
            job.add_done_callback(lambda _: self._woken.set())

    async def take(self, *, within: float) -> list[Message]:
        """Wait for messages and return them; none after `within` seconds. Raises what ended the listening."""
        if not self._waiting:
            with suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._woken.wait()
        self._woken.clear()
        for job in self._jobs:
            if job.done():
                job.result()
        taken, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
        return taken

    async def close(self) -> None:
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    async def _listen(self) -> None:
        # One call after the other, and none of them cancelled before the end: the layer would unsubscribe the channel.
        while True:
            message = await self._layer.receive(self._channel)
            if self._silence() > CUT_OFF:
                self._report_loss()
            self._heard_at, self._is_cut_off = self._clock(), False
            if message["type"] != PULSES:
                self._put(message)

    async def _watch(self) -> None:
        while True:
            # By chance: of several processes one sends the pulse, and the others hear it.
            await asyncio.sleep(PULSE * random.uniform(0.5, 1))  # noqa: S311 - chance, no secret
            if self._silence() > CUT_OFF and self._clock() - self._lost_at > REPORT_EVERY:
                self._report_loss()
            if self._silence() > PULSE / 2:
                # A pulse that cannot be sent is not heard either.
                with suppress(Exception):
                    async with asyncio.timeout(PULSE):
                        await self._layer.group_send(publication.LOG_GROUP, {"type": PULSES})

    def _silence(self) -> float:
        return self._clock() - self._heard_at

    def _report_loss(self) -> None:
        if not self._is_cut_off:
            logger.warning("the channel layer was silent: live hub reads the table")
        self._lost_at, self._is_cut_off = self._clock(), True
        self._put({"type": LOST})

    def _put(self, message: Message) -> None:
        if len(self._waiting) >= LARGEST_BACKLOG:
            self._waiting = [{"type": LOST}]
        self._waiting.append(message)
        self._woken.set()


@asynccontextmanager
async def subscribed() -> AsyncIterator[Wakes]:
    """Listen on a channel of this process in the groups of the log and of rights. Raises the layer's errors."""
    layer = channel_layer()
    async with asyncio.timeout(PATIENCE):
        # Fails while Redis is away. new_channel() would too, but the layer would keep each of these channels.
        await layer.group_send(publication.LOG_GROUP, {"type": PULSES})
        channel = await layer.new_channel()
    groups = (publication.LOG_GROUP, publication.RIGHTS_GROUP)
    wakes = None
    try:
        async with asyncio.timeout(PATIENCE):
            for group in groups:
                await layer.group_add(group, channel)
        wakes = Wakes(layer, channel)
        yield wakes
    finally:
        if wakes:
            await wakes.close()
        for group in groups:
            # The layer forgets the group first; that Redis hears of it is not needed.
            with suppress(Exception):
                await layer.group_discard(group, channel)
