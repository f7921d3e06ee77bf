"""Clients of the log on each transport. All run on one event loop in a thread beside the test.

A `Reader` keeps the events it received, in order. When its connection ends it reconnects with its cursor, as clients
should. While it reads, it checks that no event comes twice or out of order.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from tests.live.parts import until

FINAL = {4401, 4403, 4404}
T = TypeVar("T")
Frame = dict[str, Any]


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def start(self, job: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(job, self._loop)

    def run(self, job: Coroutine[Any, Any, T], *, within: float = 30) -> T:
        return self.start(asyncio.wait_for(job, within)).result()

    def stop(self) -> None:
        self.start(_end_all_tasks()).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _end_all_tasks() -> None:
    """Cancel every task of this loop and wait until all have closed their connections."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer whose body is read while it arrives."""

    status: int
    headers: dict[str, str]
    body: AsyncIterator[bytes]

    async def whole(self) -> bytes:
        return b"".join([part async for part in self.body])


@asynccontextmanager
async def get(url: str, headers: dict[str, str]) -> AsyncIterator[Answer]:
    """GET over a new connection, which ends with the block."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=2**24)
    try:
        lines = [f"GET {where.path}?{where.query} HTTP/1.1", f"Host: {where.netloc}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        first = (await reader.readline()).split()
        if len(first) < 2:
            raise ConnectionResetError("no answer")
        got: dict[str, str] = {}
        while line := (await reader.readline()).strip():
            name, _, value = line.decode().partition(":")
            got[name.lower()] = value.strip()
        yield Answer(int(first[1]), got, _body(reader, got))
    finally:
        writer.transport.abort()


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    if headers.get("transfer-encoding") != "chunked":
        yield await reader.readexactly(int(headers["content-length"]))
        return
    while size := int(await reader.readline() or b"-1", 16):
        if size < 0:
            raise ConnectionResetError("the answer broke off")
        yield await reader.readexactly(size)
        await reader.readline()


async def server_sent(body: AsyncIterator[bytes]) -> AsyncIterator[dict[str, str]]:
    """Yield the fields of each event of a `text/event-stream`."""
    rest = b""
    async for part in body:
        *whole, rest = (rest + part).split(b"\n\n")
        for text in whole:
            yield dict(line.split(": ", 1) for line in text.decode().split("\n"))


@dataclass
class Chance:
    """Decides after how many events a reader loses its connection, with its own random numbers."""

    rng: random.Random
    mean: int

    def events_until_cut(self) -> int:
        return self.rng.randint(1, 2 * self.mean)


@dataclass(kw_only=True)
class Reader(ABC):
    """`bases` are the web processes that it connects to in turn. `cursor` is its position in the log."""

    bases: Sequence[str]
    token: str
    cursor: int
    path: str = ""
    chance: Chance | None = None
    ids: list[int] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    closes: list[int] = field(default_factory=list)
    connections: int = 0
    was_live: threading.Event = field(default_factory=threading.Event)
    pause: float = 0.02
    wrong: str = ""
    is_done: bool = False
    _left: int = 10**9

    async def run(self) -> None:
        """Read until cancelled, or closed with a final code."""
        while not self.is_done:
            base = self.bases[self.connections % len(self.bases)]
            self.connections += 1
            self._left = self.chance.events_until_cut() if self.chance else 10**9
            with suppress(OSError, EOFError, WebSocketException, CutError):
                await self.read(base)
            self.is_done = self.is_done or bool(FINAL & set(self.closes)) or bool(self.wrong)
            await asyncio.sleep(self.pause)

    @abstractmethod
    async def read(self, base: str) -> None:
        """Connect with the cursor and take events until the connection ends."""

    def take(self, event: Frame) -> None:
        if event["id"] <= self.cursor:
            self.wrong = self.wrong or f"{event['id']} came after {self.cursor}"
        self.cursor = event["id"]
        self.ids.append(event["id"])
        self._left -= 1
        if self._left <= 0:
            raise CutError

    def has(self, expected: Sequence[int]) -> bool:
        """Return whether it has received this many events, or a wrong one."""
        return bool(self.wrong) or len(self.ids) >= len(expected)

    def describe(self, expected: Sequence[int]) -> str:
        missing = sorted(set(expected) - set(self.ids))
        return (
            f"{type(self).__name__} {self.path}: {len(self.ids)} events up to {self.ids[-1:]}, {self.connections} "
            f"connections, closes {self.closes[-5:]}, {self.wrong or 'in order'}, of {len(expected)} it misses "
            f"{len(missing)} from {missing[:1]} to {missing[-1:]}"
        )


class CutError(Exception):
    """The reader drops its connection here."""


class WebSocketReader(Reader):
    """Resumes by `?after=`."""

    async def read(self, base: str) -> None:
        async with self.connected(base, f"?after={self.cursor}") as connection:
            await self.follow(connection)

    @asynccontextmanager
    async def connected(self, base: str, query: str = "", **options: Any) -> AsyncIterator[ClientConnection]:
        url = f"{base.replace('http', 'ws', 1)}/api/v1/ws{self.path}{query}"
        protocols = [Subprotocol("svops.v1"), Subprotocol(f"bearer.{self.token}")]
        connection = await connect(url, subprotocols=protocols, compression=None, max_size=2**24, proxy=None, **options)
        try:
            yield connection
        finally:
            # Without a close frame, as when a network fails.
            connection.transport.abort()

    async def follow(self, connection: ClientConnection) -> None:
        try:
            async for text in connection:
                self.receive(json.loads(text))
        finally:
            if connection.close_code not in (None, 1006):
                self.closes.append(connection.close_code)

    def receive(self, frame: Frame) -> None:
        if frame["type"] == "events":
            for event in frame["events"]:
                self.take(event)
        elif "id" in frame:
            self.take(frame)
        else:
            self.frames.append(frame)
            if frame["type"] == "recovered":
                self.was_live.set()


@dataclass(kw_only=True)
class ResumingReader(WebSocketReader):
    """Resumes by a message. The replay repeats earlier live events, so events count only after `resuming`."""

    counts: bool = False

    async def read(self, base: str) -> None:
        self.counts = False
        async with self.connected(base) as connection:
            await connection.send(json.dumps({"type": "resume", "after": self.cursor}))
            await self.follow(connection)

    def receive(self, frame: Frame) -> None:
        super().receive(frame)
        self.counts |= frame["type"] == "resuming"

    def take(self, event: Frame) -> None:
        if self.counts:
            super().take(event)


@dataclass(kw_only=True)
class SlowReader(WebSocketReader):
    """Reads up to `recovered`, and then nothing until `may_read` is set. Its own buffers are small."""

    may_read: threading.Event = field(default_factory=threading.Event)

    async def read(self, base: str) -> None:
        where = urlsplit(base)
        with socket.socket() as narrow:
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            narrow.connect((where.hostname, where.port))
            async with self.connected(base, f"?after={self.cursor}", sock=narrow, max_queue=1) as connection:
                await self.follow(connection)

    async def follow(self, connection: ClientConnection) -> None:
        while not self.was_live.is_set():
            self.receive(json.loads(await connection.recv()))
        await asyncio.to_thread(self.may_read.wait, 60)
        await super().follow(connection)


class SSEReader(Reader):
    """Resumes by `Last-Event-ID`, as `EventSource` does."""

    async def read(self, base: str) -> None:
        headers = {"Authorization": f"Bearer {self.token}", "Last-Event-ID": str(self.cursor)}
        async with get(f"{base}/api/v1/events/stream{self.path}", headers) as answer:
            if answer.status != HTTPStatus.OK:
                self.closes.append(4000 + answer.status)
                return
            async for sent in server_sent(answer.body):
                self.receive(sent)

    def receive(self, sent: dict[str, str]) -> None:
        frame = json.loads(sent["data"])
        if "id" in frame:
            self.take(frame)
            return
        self._resume_from(int(sent["id"]), is_refused=frame.get("recovered") is False)
        self.frames.append({"type": sent["event"], **frame})
        if sent["event"] == "recovered":
            self.was_live.set()
        if sent["event"] == "error":
            self.closes.append(frame["close_code"])

    def _resume_from(self, cursor: int, *, is_refused: bool) -> None:
        """Take the id of a frame that is not an event. It goes back only if the reader's own cursor was refused."""
        if cursor < self.cursor and not is_refused:
            self.wrong = self.wrong or f"the id {cursor} came after {self.cursor}"
        self.cursor = cursor


@dataclass(kw_only=True)
class PollingReader(Reader):
    """Polls page after page."""

    pause: float = 0.2

    async def read(self, base: str) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        query = {"after": self.cursor, "limit": 300}
        async with get(f"{base}/api/v1/events?{urlencode(query)}{self.path}", headers) as answer:
            if answer.status != HTTPStatus.OK:
                self.closes.append(4000 + answer.status)
                return
            page = json.loads(await answer.whole())
        for event in page["results"]:
            self.take(event)
        self.cursor = page["cursor"]
        self.was_live.set()


@contextmanager
def reading(loop: Loop, readers: Sequence[Reader]) -> Iterator[None]:
    """Let the readers read during the block."""
    jobs = [loop.start(reader.run()) for reader in readers]
    try:
        until(lambda: all(reader.was_live.is_set() or reader.is_done for reader in readers), within=30)
        yield
    finally:
        for job in jobs:
            job.cancel()


def have(readers: Sequence[Reader], expected: Sequence[int], *, within: float) -> float:
    """Wait until each reader has as many events as expected, and require exactly these. Return the seconds it took."""
    took = until(
        lambda: all(reader.has(expected) for reader in readers),
        within=within,
        or_say=lambda: "\n".join(reader.describe(expected) for reader in readers if not reader.has(expected)),
    )
    for reader in readers:
        assert reader.wrong == ""
        assert reader.ids == expected, reader.describe(expected)
    return took
