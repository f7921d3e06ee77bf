"""Whether the web process, the worker and beat still work. Each check asks once and returns "" or what is wrong."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import requests
from redis import RedisError

from runner import redis

if TYPE_CHECKING:
    from celery import Celery

# Seconds. Beat ticks every second; while the database is away, every 11.
BEAT_AGE = 30.0
PING_TIMEOUT = 10.0


class Health:
    """Of the processes of one platform. Worker and beat wait for a Redis that is away: that is no fault of theirs."""

    def __init__(self, url: str, *, redis_url: str) -> None:
        self._url = url
        self._redis_url = redis_url

    def of_web(self, *, timeout: float = 20) -> str:
        try:
            answer = requests.get(f"{self._url}/healthz", timeout=timeout)
        except requests.RequestException as exc:
            return f"it does not answer ({type(exc).__name__})"
        return "" if answer.ok else f"/healthz answers {answer.status_code}"

    def of_worker(self, name: str) -> str:
        if self._redis_is_away():
            return ""
        from kombu.exceptions import OperationalError

        try:
            answers = self._celery.control.ping(destination=[name], timeout=PING_TIMEOUT)
        except (OSError, OperationalError, RedisError):
            return ""  # Redis has just gone away
        return "" if answers else "it does not answer a ping"

    def of_beat(self, file: Path) -> str:
        if self._redis_is_away():
            return ""
        try:
            age = time.time() - file.stat().st_mtime
        except FileNotFoundError:
            return "it has not ticked yet"
        return f"its last tick was {age:.0f} s ago" if age > BEAT_AGE else ""

    def _redis_is_away(self) -> bool:
        return not self._redis_url or bool(redis.unreachable(self._redis_url))

    @cached_property
    def _celery(self) -> Celery:
        # Here: its import takes half a second of a start.
        from celery import Celery

        return Celery(broker=self._redis_url, set_as_current=False)
