"""Sends over the channel layer from code that has no event loop: views, tasks, management commands."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

from channels.layers import get_channel_layer

logger = logging.getLogger(__name__)

SEND_TIMEOUT = 1.0  # seconds that a sender waits for others, and then for the layer


def channel_layer() -> Any:
    """Return the channel layer of `CHANNEL_LAYERS`. Its connections belong to the event loop that uses them."""
    return get_channel_layer()


class Sender:
    """Sends on one event loop that lives as long as the process. The sending thread runs it, one thread at a time.

    `async_to_sync` would make a new loop for each message, and the layer a new connection for each loop. A loop in a
    thread of its own would cost two more changes of threads for each message.
    """

    def __init__(self) -> None:
        self._turn = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_failing = False

    def send(self, group: str, message: Mapping[str, Any]) -> None:
        """Send to a group. Drop the message if that fails or takes too long: who misses it reads the table."""
        try:
            self._send(group, message)
        except Exception as exc:  # noqa: BLE001 - each layer has errors of its own, and the change is committed
            self._note_failure(exc)
        else:
            self._is_failing = False

    def close(self) -> None:
        """Close the event loop and, with it, its connections."""
        if self._loop:
            self._loop.close()
            self._loop = None

    def _send(self, group: str, message: Mapping[str, Any]) -> None:
        if not self._turn.acquire(timeout=SEND_TIMEOUT):
            raise TimeoutError
        try:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
            if _is_in_a_loop():
                # A loop cannot run inside another one, so a thread runs it.
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(self._run, self._loop, group, message).result()
            else:
                self._run(self._loop, group, message)
        finally:
            self._turn.release()

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop, group: str, message: Mapping[str, Any]) -> None:
        loop.run_until_complete(_group_send(group, message))

    def _note_failure(self, exc: Exception) -> None:
        # Once per outage: each event of it would fail the same way.
        if not self._is_failing:
            logger.warning("no wake-up: the channel layer does not answer", extra={"error": type(exc).__name__})
        self._is_failing = True


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _group_send(group: str, message: Mapping[str, Any]) -> None:
    # The loop stood still since the last message. One turn lets it notice a connection that was closed meanwhile.
    await asyncio.sleep(0)
    async with asyncio.timeout(SEND_TIMEOUT):
        await channel_layer().group_send(group, message)


_sender = Sender()


def send(group: str, message: Mapping[str, Any]) -> None:
    """Send to a group, from any thread of this process."""
    _sender.send(group, message)


def _renew() -> None:
    # A forked process must not use its parent's connections, and a thread that it does not have may hold the lock.
    global _sender
    _sender = Sender()


os.register_at_fork(after_in_child=_renew)
