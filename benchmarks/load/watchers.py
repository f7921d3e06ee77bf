"""Clients that watch workflows over WebSockets, in a process of their own: `python -m benchmarks.load.watchers`.

Standard input has one line of JSON: `url`, and `sockets` with a token and a workflow each. When all are connected it
prints a line. When its input closes it prints a last line: how late each type of event was, and which runs ended.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, defaultdict
from datetime import datetime
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

AT_ONCE = 50  # sockets that connect at the same time
BUCKET = 0.001  # seconds; lateness is counted in these
LAST = "workflow.completed"


class Watched:
    """What all sockets together have received."""

    def __init__(self) -> None:
        # By type of event: how often an event was late by so many buckets.
        self.late: dict[str, Counter[int]] = defaultdict(Counter)
        # By run: how many sockets have seen its end.
        self.ended: Counter[str] = Counter()
        self.closed: Counter[str] = Counter()

    def receive(self, text: str | bytes) -> None:
        now = time.time()
        frame = json.loads(text)
        for event in frame["events"] if frame["type"] == "events" else (frame,):
            if "run_id" in event:
                late = now - datetime.fromisoformat(event["timestamp"]).timestamp()
                change = event["data"].get("change")
                self.late[f"{event['type']} {change}" if change else event["type"]][max(0, int(late / BUCKET))] += 1
                if event["type"] == LAST:
                    self.ended[event["run_id"]] += 1

    def as_json(self) -> dict[str, Any]:
        late = {kind: dict(counts) for kind, counts in self.late.items()}
        return {"late": late, "ended": dict(self.ended), "closed": dict(self.closed)}


async def main() -> None:
    order = json.loads(sys.stdin.readline())
    watched, turn = Watched(), asyncio.Semaphore(AT_ONCE)
    opened = [_open(order["url"], turn=turn, **socket) for socket in order["sockets"]]
    sockets = await asyncio.gather(*opened)
    readers = [asyncio.ensure_future(_read(socket, watched)) for socket in sockets]
    print(json.dumps({"connected": len(sockets)}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for reader in readers:
        reader.cancel()
    print(json.dumps(watched.as_json()), flush=True)


async def _open(url: str, *, turn: asyncio.Semaphore, token: str, workflow: int) -> ClientConnection:
    protocols = [Subprotocol("svops.v1"), Subprotocol(f"bearer.{token}")]
    async with turn:
        # No compression: it would be this process that limits.
        return await connect(
            f"{url}/api/v1/ws/workflow/{workflow}", subprotocols=protocols, open_timeout=60, compression=None
        )


async def _read(socket: ClientConnection, watched: Watched) -> None:
    try:
        async for text in socket:
            watched.receive(text)
    except WebSocketException as exc:
        watched.closed[type(exc).__name__] += 1


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
