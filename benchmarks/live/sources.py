"""How the publisher gets a batch of events into each server."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Callable, Sequence
from typing import Any

import msgpack  # type: ignore[import-untyped] # comes with channels-redis
import redis

NOTE_LENGTH = 230  # makes an event 500 bytes long

INSERT = (
    "INSERT INTO workflows_event (run_id, seq, workflow_id, user_id, type, task_id, timestamp, data)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
)

# Publishes a batch. Each string is the mark of one event and must reach the clients unchanged.
Publish = Callable[[Sequence[str]], None]


def envelope(mark: str) -> dict[str, Any]:
    """Return an event of the size and shape of SVOps' events, for servers without a log."""
    return {
        "id": 1_000_000,
        "seq": 1_000_000,
        "type": "workflow.paused",
        "workflow_id": 1,
        "run_id": "00000000-0000-4000-8000-000000000000",
        "task_id": None,
        "user_id": 1,
        "timestamp": "2026-01-01T00:00:00.000000Z",
        "data": {
            "state": "running",
            "attempt": 1,
            "scope": "run",
            "note": mark.ljust(NOTE_LENGTH, "."),
            "by": "benchmark",
        },
    }


def _encoded(event: Any) -> str:
    return json.dumps(event, separators=(",", ":"))


def svops(run_id: str) -> Publish:
    """Publish through the log: commit the rows of a run in one transaction per batch, then publish them as usual.

    The rows are those that `events.record()` writes. They are written without the ORM: its cost per row belongs to the
    code that records events, not to the log.
    """
    import django

    django.setup()
    from django.db import connection, transaction
    from django.utils import timezone

    from workflows.eventlog import publication
    from workflows.models import Run

    run = Run.objects.get(pk=run_id)

    def row(seq: int, mark: str, now: str) -> tuple[Any, ...]:
        data = json.dumps(envelope(mark)["data"])
        return (run.pk.hex, seq, run.workflow_id, run.user_id, "workflow.paused", "", now, data)

    def publish(marks: Sequence[str]) -> None:
        now = str(timezone.now().replace(tzinfo=None))
        with transaction.atomic(), connection.cursor() as cursor:
            Run.objects.filter(pk=run.pk).update(event_count=run.event_count + len(marks))
            cursor.executemany(INSERT, [row(seq, mark, now) for seq, mark in enumerate(marks, run.event_count + 1)])
        run.event_count += len(marks)
        publication.publish()

    return publish


def channels(redis_url: str) -> Publish:
    """Publish as Channels documents it: `group_send` with one message per event."""
    from channels_redis.core import RedisChannelLayer

    layer = RedisChannelLayer(hosts=[redis_url])
    loop = asyncio.new_event_loop()

    async def send(marks: Sequence[str]) -> None:
        for mark in marks:
            await layer.group_send("hot", {"type": "hot.event", "event": envelope(mark)})

    return lambda marks: loop.run_until_complete(send(marks))


def socketio(redis_url: str) -> Publish:
    """Publish what @socket.io/redis-emitter sends to the Redis adapter of the servers."""
    client = redis.Redis.from_url(redis_url)

    def publish(marks: Sequence[str]) -> None:
        pipeline = client.pipeline(transaction=False)
        for mark in marks:
            packet = {"type": 2, "data": ["event", envelope(mark)], "nsp": "/"}
            message = ["emitter", packet, {"rooms": ["hot"], "except": [], "flags": {}}]
            pipeline.publish("socket.io#/#hot#", msgpack.packb(message))
        pipeline.execute()

    return publish


def nchan(port: str) -> Publish:
    """Publish with one POST per event over one connection, as nchan's endpoint expects."""
    connection = http.client.HTTPConnection("127.0.0.1", int(port))

    def publish(marks: Sequence[str]) -> None:
        for mark in marks:
            connection.request("POST", "/publish", body=_encoded(envelope(mark)))
            connection.getresponse().read()

    return publish


def bare(redis_url: str) -> Publish:
    """Publish one Redis message per batch, with an event per line."""
    client = redis.Redis.from_url(redis_url)

    def publish(marks: Sequence[str]) -> None:
        client.publish("bare", "\n".join(_encoded(envelope(mark)) for mark in marks))

    return publish


KINDS: dict[str, Callable[..., Publish]] = {
    "svops": svops,
    "channels": channels,
    "socketio": socketio,
    "nchan": nchan,
    "bare": bare,
}
