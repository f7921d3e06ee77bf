"""The most that Python can do: an asyncio protocol that joins the events that arrived and writes them to every client.

It has no filters, no rights, no log and no care for slow clients. It is a yardstick, not a server.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys
from typing import cast

import redis.asyncio
import uvloop

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
clients: set[asyncio.Transport] = set()


class Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not a subclass.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.transport in clients or b"sec-websocket-key: " not in data.lower():
            return
        at = data.lower().index(b"sec-websocket-key: ") + 19
        key = data[at : data.index(b"\r\n", at)]
        accept = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        clients.add(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        clients.discard(self.transport)


def frame(text: bytes) -> bytes:
    if len(text) < 126:
        return bytes((0x81, len(text))) + text
    if len(text) < 65536:
        return b"\x81\x7e" + len(text).to_bytes(2, "big") + text
    return b"\x81\x7f" + len(text).to_bytes(8, "big") + text


async def main(port: int, redis_url: str) -> None:
    await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=1024)
    async with redis.asyncio.Redis.from_url(redis_url) as connection, connection.pubsub() as messages:
        await messages.subscribe("bare")
        while True:
            lines = []
            message = await messages.get_message(ignore_subscribe_messages=True, timeout=5)
            while message is not None:
                lines += message["data"].split(b"\n")
                message = await messages.get_message(ignore_subscribe_messages=True, timeout=0)
            joined = b"".join(map(frame, lines))
            for client in clients:
                client.write(joined)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
