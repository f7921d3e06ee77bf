"""Where the sockets of a process look at the database: in threads of their own, a fixed number for each purpose.

The hub reads the log in the process's one database thread (`database_sync_to_async`). What clients cause does not wait
there: opening a stream, and answering messages and replays, have lanes of their own. So a client that floods its stream
delays neither the hub nor the sign-in of others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, wraps
from typing import ParamSpec, TypeVar

from channels.db import database_sync_to_async
from django.conf import settings

P = ParamSpec("P")
T = TypeVar("T")

OPENING = "opening"
ANSWERING = "answering"


@cache
def _threads(purpose: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(settings.STREAM_LANES, thread_name_prefix=f"streams-{purpose}")


def on_lane(purpose: str) -> Callable[[Callable[P, T]], Callable[P, Awaitable[T]]]:
    """Make a function that queries the database awaitable, in the threads of a purpose."""

    def decorated(function: Callable[P, T]) -> Callable[P, Awaitable[T]]:
        @wraps(function)
        async def called(*args: P.args, **kwargs: P.kwargs) -> T:
            there = database_sync_to_async(function, thread_sensitive=False, executor=_threads(purpose))
            return await there(*args, **kwargs)

        return called

    return decorated
