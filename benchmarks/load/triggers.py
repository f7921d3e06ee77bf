"""Triggers at a fixed rate, in a process of its own: `python -m benchmarks.load.triggers`.

Standard input has one line of JSON. A trigger is due when it is due, however long the earlier ones take (open loop),
and its answer counts from then. Triggers of one request are due together. The last line of the output says what became
of them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

MOST_OPEN = 500  # connections
LONGEST = 30.0  # seconds for an answer


@dataclass
class Triggered:
    answers: list[float] = field(default_factory=list)
    accepted: dict[str, float] = field(default_factory=dict)  # run id at Airflow → when it was due
    refused: Counter[str] = field(default_factory=Counter)


class Connections:
    """Connections that stay open, each for one request at a time."""

    def __init__(self, url: str) -> None:
        self._at = urlsplit(url)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._room = asyncio.Semaphore(MOST_OPEN)

    async def post(self, path: str, token: str, content: bytes) -> tuple[int, bytes]:
        async with self._room:
            reader, writer = self._idle.pop() if self._idle else await self._connect()
            try:
                writer.write(
                    f"POST {path} HTTP/1.1\r\nHost: {self._at.netloc}\r\nAuthorization: Bearer {token}\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
                    + content
                )
                status, body, stays = await _answer(reader)
            except BaseException:
                writer.close()
                raise
            if stays:
                self._idle.append((reader, writer))
            else:
                writer.close()
            return status, body

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._at.hostname, self._at.port)


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    status = int(head.split(" ", 2)[1])
    length = int(head.split("content-length:", 1)[1].split("\r\n", 1)[0])
    return status, await reader.readexactly(length), "connection: close" not in head


async def main() -> None:
    order = json.loads(sys.stdin.readline())
    triggered, connections = Triggered(), Connections(order["url"])
    callers: list[dict[str, Any]] = order["callers"]
    batch: int = order["batch"]
    began, rate, waiting = time.time() + 0.2, order["rate"] / batch, []
    for number in range(round(rate * order["seconds"])):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.time()))
        caller = callers[number % len(callers)]
        waiting.append(asyncio.ensure_future(_trigger(connections, triggered, due=due, batch=batch, **caller)))
    await asyncio.gather(*waiting)
    print(json.dumps(vars(triggered)), flush=True)


async def _trigger(
    connections: Connections, triggered: Triggered, *, due: float, batch: int, token: str, workflow: int
) -> None:
    path, content = f"/api/v1/workflows/{workflow}/runs", b"{}"
    if batch > 1:
        path, content = f"{path}/batch", json.dumps({"items": [{}] * batch}).encode()
    try:
        async with asyncio.timeout(LONGEST):
            status, body = await connections.post(path, token, content)
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as exc:
        triggered.refused[type(exc).__name__] += batch
        return
    triggered.answers += [time.time() - due] * batch
    if status not in (200, 201):
        triggered.refused[f"HTTP {status}"] += batch
        return
    answer = json.loads(body)
    for result in answer["results"] if batch > 1 else [{"run": answer}]:
        if run := result.get("run"):
            triggered.accepted[run["dag_run_id"]] = due
        else:
            triggered.refused[f"HTTP {result['status']}"] += 1


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
