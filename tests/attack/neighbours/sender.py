"""The process that sends a flood: `python -m tests.attack.neighbours.sender`, with the order on standard input.

It sends to the loopback address only, until its input ends, and never more or longer than the order says. It imports
nothing of SVOps, so that it starts at once and costs little.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field

HOST = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to send. A connection sends one of `first`, `then` once an answer begins, and `drip` twice a second.

    A connection that ends is replaced after `pause` seconds, up to `most` connections and `seconds` in all.
    """

    port: int
    first: list[bytes]
    then: bytes = b""
    drip: bytes = b""
    at_once: int
    most: int
    seconds: float
    pause: float = 0.0

    def as_line(self) -> str:
        texts = {"first": [_text(one) for one in self.first], "then": _text(self.then), "drip": _text(self.drip)}
        return json.dumps(asdict(self) | texts)

    @classmethod
    def from_line(cls, line: str) -> Order:
        given = json.loads(line)
        return cls(
            **given
            | {"first": [base64.b64decode(one) for one in given["first"]]}
            | {name: base64.b64decode(given[name]) for name in ("then", "drip")}
        )


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


@dataclass
class Flood:
    order: Order
    begun: int = 0
    is_over: bool = False
    statuses: Counter[str] = field(default_factory=Counter)
    under_way: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        workers = [asyncio.create_task(self._work()) for _ in range(self.order.at_once)]
        ends = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        with suppress(TimeoutError):
            await asyncio.wait_for(self.under_way.wait(), 10)
        print("under way", flush=True)  # noqa: T201 - the answer to the test
        await asyncio.wait([ends], timeout=self.order.seconds)
        # A cancellation that comes together with an answer is lost (`asyncio.wait_for` of Python 3.11).
        self.is_over = True
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers, timeout=5)
        print(json.dumps({"connections": self.begun, "statuses": self.statuses}), flush=True)  # noqa: T201

    async def _work(self) -> None:
        while self.begun < self.order.most and not self.is_over:
            number, self.begun = self.begun, self.begun + 1
            if self.begun >= min(self.order.at_once, self.order.most):
                self.under_way.set()
            with suppress(OSError):
                await self._connection(self.order.first[number % len(self.order.first)])
            await asyncio.sleep(self.order.pause)

    async def _connection(self, first: bytes) -> None:
        reader, writer = await asyncio.open_connection(HOST, self.order.port)
        try:
            writer.write(first)
            began = False
            ends = time.monotonic() + self.order.seconds
            while time.monotonic() < ends and not self.is_over:
                try:
                    part = await asyncio.wait_for(reader.read(65_536), 0.5)
                except TimeoutError:
                    writer.write(self.order.drip)
                    continue
                if not part:
                    return
                if not began:
                    began = True
                    self.statuses[part[9:12].decode(errors="replace")] += 1
                    writer.write(self.order.then)
        finally:
            writer.transport.abort()


async def main() -> None:
    await Flood(Order.from_line(sys.stdin.readline())).run()
    # Whatever a thread or a connection still waits for.
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
