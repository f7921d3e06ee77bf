"""When the last push of each Airflow arrived, and from which version of the plugin.

Redis knows it, for the doctor; it may be lost.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from functools import cache

import redis
from django.conf import settings

from workflows.naming import DEFAULT

LISTENER_VERSION = "3"  # of plugins/svops_listener.py here

KEPT = 30 * 86400  # seconds
# Airflow may push hundreds of times a second.
AT_MOST_EVERY = 1.0

_lock = threading.Lock()
_noted: dict[str, tuple[float, str]] = {}


@dataclass(frozen=True, kw_only=True)
class Arrival:
    at: datetime
    version: str
    dropped: int


@cache
def _redis() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=1)


def _key(airflow: str) -> str:
    return "svops:last-push" if airflow == DEFAULT else f"svops:last-push:{airflow}"


def note(airflow: str, *, version: str, dropped: int, now: datetime) -> None:
    """Remember that a push has arrived. Does nothing while Redis is away, or if it has just done this."""
    with _lock:
        at, noted = _noted.get(airflow, (0.0, ""))
        if time.monotonic() - at < AT_MOST_EVERY and noted == version:
            return
        _noted[airflow] = (time.monotonic(), version)
    told = json.dumps({"at": now.isoformat(), "version": version, "dropped": dropped})
    try:
        _redis().set(_key(airflow), told, ex=KEPT)
    except redis.RedisError:
        return


def last(airflow: str) -> Arrival | None:
    """Return the last push that is remembered. Raises `redis.RedisError`."""
    told = _redis().get(_key(airflow))
    if not told:
        return None
    read = json.loads(str(told, "utf-8") if isinstance(told, bytes) else str(told))
    return Arrival(at=datetime.fromisoformat(read["at"]), version=read["version"], dropped=read["dropped"])
