"""What one user's streams may have of a web process together, however many keys and tickets they were opened with."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from django.conf import settings

from rest.errors import TooManyRequestsError

WINDOW = 60.0  # seconds in which messages are counted


class Window:
    """Counts messages in the present minute."""

    __slots__ = ("_began", "_count")

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._count = 0

    def count(self, *, most: int) -> None:
        """Count one. Raises `TooManyRequestsError` if it is one too many."""
        now = time.monotonic()
        if now >= self._began + WINDOW:
            self._began, self._count = now, 0
        self._count += 1
        if self._count > most:
            wait = max(1, math.ceil(self._began + WINDOW - now))
            raise TooManyRequestsError("Too many messages on the stream; try again later.", retry_after=wait)

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._began + WINDOW


class Share:
    """One user's share. Everything here runs on one event loop."""

    # Small, because there may be as many as streams.
    __slots__ = ("_streams", "_turn", "messages")

    LONGEST_REST = 0.2  # seconds

    def __init__(self) -> None:
        self._streams = 0
        self._turn: asyncio.Lock | None = None
        self.messages = Window()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One message of a user at a time looks at the database: many streams of one user take one lane.

        If others wait, the lane rests as long as the message took, so that they take half of its time at most.
        """
        if self._turn is None:
            self._turn = asyncio.Lock()
        is_alone = not self._turn.locked()
        async with self._turn:
            began = time.monotonic()
            try:
                yield
            finally:
                if not is_alone:
                    await asyncio.sleep(min(time.monotonic() - began, self.LONGEST_REST))

    def enter(self) -> None:
        """Add a stream. Raises `TooManyRequestsError` if it is one too many."""
        if self._streams >= settings.STREAMS_PER_USER:
            raise TooManyRequestsError(
                f"At most {settings.STREAMS_PER_USER} streams of one user at a time.", retry_after=math.ceil(WINDOW)
            )
        self._streams += 1

    def leave(self) -> None:
        self._streams -= 1

    @property
    def is_unused(self) -> bool:
        return not self._streams and self.messages.is_over


_shares: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Share]] = WeakKeyDictionary()
MANY = 1_000  # shares before those that are unused are forgotten


def share_of(user_id: int) -> Share:
    """Return the share of a user in this process. (Tests have one per event loop.)"""
    shares = _shares.setdefault(asyncio.get_running_loop(), {})
    if user_id not in shares:
        if len(shares) >= MANY:
            for unused in [one for one, share in shares.items() if share.is_unused]:
                del shares[unused]
        shares[user_id] = Share()
    return shares[user_id]
