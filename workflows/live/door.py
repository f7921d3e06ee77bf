"""How many sockets of one web process may be open without having signed in: from one address, and in all.

A stream costs its caller a rate limit and a place among the caller's streams. Before the sign-in there is no caller, so
the place at the door is what a socket costs.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from http import HTTPStatus
from typing import Any
from weakref import WeakValueDictionary

from django.conf import settings
from django.http import JsonResponse
from django_guid import set_guid
from django_guid.utils import generate_guid

from accounts.addresses import client_of, site_of
from rest.error_responses import error_body

SCOPE_KEY = "svops.place"
ENTRANCE_KEY = "svops.entrance"
RETRY_AFTER = 5  # seconds


class Place:
    """One socket's place. It leaves when it signs in, or when its time to sign in is over."""

    # Small, because an open stream keeps it.
    __slots__ = ("_is_taken", "_site", "_waiting")

    def __init__(self, waiting: Counter[str], site: str) -> None:
        self._waiting = waiting
        self._site = site
        self._is_taken = True
        waiting[site] += 1

    def leave(self) -> None:
        if self._is_taken:
            self._is_taken = False
            self._waiting[self._site] -= 1
            if not self._waiting[self._site]:
                del self._waiting[self._site]


class Door:
    """Wraps the ASGI application of the sockets. Answers 429 to a handshake for which there is no place."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._waiting: Counter[str] = Counter()
        self._entrances: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        site = _site(scope)
        if (
            self._waiting[site] >= settings.STREAM_UNSIGNED_PER_ADDRESS
            or self._waiting.total() >= settings.STREAM_UNSIGNED
        ):
            return await _refuse(receive, send)
        place = scope[SCOPE_KEY] = Place(self._waiting, site)
        # One lane of `lanes.OPENING` stays free for others, however many sockets of one address sign in at once.
        entrance = self._entrances.setdefault(site, asyncio.Semaphore(max(1, settings.STREAM_LANES - 1)))
        scope[ENTRANCE_KEY] = entrance
        loop = asyncio.get_running_loop()
        ends = loop.time() + settings.STREAM_AUTH_TIMEOUT
        try:
            return await self._application(scope, receive, send)
        finally:
            # Who ends a socket early gets no other one for it: else sockets would cost nothing but their handshake.
            loop.call_at(max(ends, loop.time()), place.leave)


@asynccontextmanager
async def entrance(scope: Mapping[str, Any]) -> AsyncIterator[None]:
    """Wait until the sockets of this address that sign in leave room for one more."""
    async with scope.get(ENTRANCE_KEY) or nullcontext():
        yield


def signed_in(scope: Mapping[str, Any]) -> None:
    """Give a socket's place at the door to the next."""
    place: Place | None = scope.get(SCOPE_KEY)
    if place:
        place.leave()


def _site(scope: Mapping[str, Any]) -> str:
    forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
    peer = scope.get("client") or ("", 0)
    return site_of(client_of(str(peer[0]), forwarded.decode("latin-1")))


async def _refuse(receive: Any, send: Any) -> None:
    await receive()
    set_guid(generate_guid())
    detail = "Too many connections wait for their sign-in; try again later."
    answer = JsonResponse(error_body("throttled", detail), status=HTTPStatus.TOO_MANY_REQUESTS)
    headers = [(b"content-type", b"application/json"), (b"retry-after", str(RETRY_AFTER).encode())]
    await send({"type": "websocket.http.response.start", "status": answer.status_code, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": answer.content})
