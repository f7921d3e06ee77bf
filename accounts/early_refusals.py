"""Refuses the repeats of a request that was just refused for being one too many, before Django.

A refusal by Django costs a sign-in, a look into Redis and a thread. A caller who is over a limit and goes on asking
would take that from everybody else, as often as they ask.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from django_guid import set_guid
from django_guid.utils import generate_guid

from accounts.addresses import client_of, site_of
from accounts.limits import OVER_RATE
from rest.error_responses import error_body

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

LONGEST = 2.0  # seconds for which repeats are refused here
MOST = 10_000  # refusals that are remembered
API = "/api/"
# Of these, one being too many says nothing about other requests.
COUNTED_APART = ("/api/v1/auth/",)
# Who forges pushes may have the address of an Airflow whose signed pushes are never too many.
INGEST = "/api/v1/ingest"
EVERYTHING = b"*"

Key = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer 429: repeated here until `until`; its Retry-After counts to `ends`."""

    until: float
    ends: float
    code: str
    detail: str


class EarlyRefusals:
    """Wraps an ASGI application. Each process remembers its own refusals."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._refusals: dict[Key, Refusal] = {}

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        path = scope["path"]
        if not path.startswith(API) or path.startswith(INGEST) or b"ticket=" in scope["query_string"]:
            await self._application(scope, receive, send)
            return
        who = _who(scope)
        if refusal := self._found(who, scope):
            await _answer(send, refusal)
            return
        start: Message = {}

        async def noting(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
            elif start["status"] == HTTPStatus.TOO_MANY_REQUESTS:
                self._note(who, scope, start, message.get("body", b""))
            await send(message)

        await self._application(scope, receive, noting)

    def _found(self, who: bytes, scope: Mapping[str, Any]) -> Refusal | None:
        now = time.monotonic()
        for key in _keys(who, scope):
            if (refusal := self._refusals.get(key)) and now < refusal.until:
                return refusal
        return None

    def _note(self, who: bytes, scope: Mapping[str, Any], start: Message, body: bytes) -> None:
        try:
            headers = {name.lower(): value for name, value in start["headers"]}
            wait = float(headers[b"retry-after"])
            told = json.loads(body)
            refusal = _refusal(wait, told["code"], told["detail"])
        except (KeyError, TypeError, ValueError):
            return  # no answer of the API
        own, *all_of_who = _keys(who, scope)
        key = all_of_who[0] if all_of_who and scope.get(OVER_RATE) else own
        if len(self._refusals) >= MOST:
            self._forget()
        self._refusals[key] = refusal

    def _forget(self) -> None:
        """Forget what is over, or else the oldest half."""
        now = time.monotonic()
        alive = {key: refusal for key, refusal in self._refusals.items() if now < refusal.until}
        newest = list(alive.items())[-MOST // 2 :]
        self._refusals = dict(newest)


def _keys(who: bytes, scope: Mapping[str, Any]) -> Iterator[Key]:
    """Yield the key of this request, and that of all requests of its caller that are counted together."""
    path = str(scope["path"]).rstrip("/")
    # Streams of one kind are counted together: those of events, and those of logs.
    counted = "/".join(path.split("/")[-2:]) if path.endswith("/stream") else path
    yield who, f"{scope['method']} {counted}".encode()
    if not path.startswith(COUNTED_APART) and not path.endswith("/stream"):
        yield who, EVERYTHING


def _who(scope: Mapping[str, Any]) -> bytes:
    """Return a digest of the credentials, or of the address of a request without any."""
    headers = dict(scope["headers"])
    named = headers.get(b"authorization") or headers.get(b"cookie")
    if named is None:
        forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
        peer = scope.get("client") or ("", 0)
        named = b"address " + site_of(client_of(str(peer[0]), forwarded.decode("latin-1"))).encode()
    return hashlib.blake2b(named, digest_size=16).digest()


def _refusal(wait: float, code: str, detail: str) -> Refusal:
    now = time.monotonic()
    return Refusal(until=now + min(wait, LONGEST), ends=now + wait, code=code, detail=detail)


async def _answer(send: Send, refusal: Refusal) -> None:
    set_guid(generate_guid())
    body = json.dumps(error_body(refusal.code, refusal.detail)).encode()
    retry_after = max(1, math.ceil(refusal.ends - time.monotonic()))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", str(retry_after).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": HTTPStatus.TOO_MANY_REQUESTS, "headers": headers})
    await send({"type": "http.response.body", "body": body})
