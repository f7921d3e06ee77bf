"""When the last push arrived, and from which version of the plugin. Redis knows it, for the doctor; it may be lost."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from functools import cache

import redis
from django.conf import settings

LISTENER_VERSION = "2"  # of plugins/svops_listener.py here

KEY = "svops:last-push"
KEPT = 30 * 86400  # seconds
# Airflow may push hundreds of times a second.
AT_MOST_EVERY = 1.0

_lock = threading.Lock()
_noted: tuple[float, str] = (0.0, "")


@dataclass(frozen=True, kw_only=True)
class Arrival:
    at: datetime
    version: str
    dropped: int


@cache
def _redis() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=1)


def note(*, version: str, dropped: int, now: datetime) -> None:
    """Remember that a push has arrived. Does nothing while Redis is away, or if it has just done this."""
    global _noted
    with _lock:
        is_recent = time.monotonic() - _noted[0] < AT_MOST_EVERY and _noted[1] == version
        if is_recent:
            return
        _noted = (time.monotonic(), version)
    told = json.dumps({"at": now.isoformat(), "version": version, "dropped": dropped})
    try:
        _redis().set(KEY, told, ex=KEPT)
    except redis.RedisError:
        return


def last() -> Arrival | None:
    """Return the last push that is remembered. Raises `redis.RedisError`."""
    told = _redis().get(KEY)
    if not told:
        return None
    read = json.loads(str(told, "utf-8") if isinstance(told, bytes) else str(told))
    return Arrival(at=datetime.fromisoformat(read["at"]), version=read["version"], dropped=read["dropped"])
