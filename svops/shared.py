"""An answer that is costly to make is made once for all who ask at about the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from django.conf import settings

T = TypeVar("T")


class Shared(Generic[T]):
    """Makes an answer, and gives it to everybody for `SHARED_ANSWER_SECONDS`. Who asks meanwhile waits for it."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: tuple[float, T] | None = None

    def peek(self) -> T | None:
        """Return the answer if it need not be made now. Never waits."""
        made = self._made
        return made[1] if made and time.monotonic() < made[0] + settings.SHARED_ANSWER_SECONDS else None

    def get(self) -> T:
        with self._lock:
            if self._made and time.monotonic() < self._made[0] + settings.SHARED_ANSWER_SECONDS:
                return self._made[1]
            answer = self._make()
            # The time counts from the end: a slow answer is not old already.
            self._made = (time.monotonic(), answer)
            return answer
