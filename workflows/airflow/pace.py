"""At most so many requests a second, evenly."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from .errors import AirflowBusyError


class Pace(Protocol):
    def wait(self, at_most: float) -> None:
        """Wait for our turn to send a request. Raise `AirflowBusyError`, at once, if it is more seconds away."""


class OwnPace:
    """The pace of this process. Each request gets the next free moment."""

    def __init__(
        self,
        per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap = 1 / per_second
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._free_at = 0.0

    def wait(self, at_most: float) -> None:
        with self._lock:
            now = self._clock()
            moment = max(now, self._free_at)
            if moment - now > at_most:
                raise too_many()
            self._free_at = moment + self._gap
        if moment > now:
            self._sleep(moment - now)


def too_many() -> AirflowBusyError:
    return AirflowBusyError("too many requests to Airflow wait for their turn")
