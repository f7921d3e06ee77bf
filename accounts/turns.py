"""How many requests of one caller a web process works on at once. The others of that caller wait for their turn.

Threads of one process share one interpreter and one pool of connections to the database. Without turns a caller with
forty requests at once has forty shares of both, and everybody else one. And while others work, a caller with several
requests at once begins them so far apart that they compute for at most `BUSY_SHARE` of the time.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponseBase
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts.limits import by_address
from rest.errors import TooManyOfYoursError

LONGEST_WAIT = 20.0  # seconds
MOST_WAITING = 100  # requests of one caller
LATELY = 2.0  # seconds after a request for which its caller counts as at work
FIRST_GUESS = 0.02  # seconds of CPU that a request costs, as long as nothing is known of its caller
NEVER = float("-inf")


@dataclass
class _Line:
    """The requests of one caller: those that are worked on, and those that wait, the first in front."""

    working: int = 0
    waiting: deque[threading.Condition] = field(default_factory=deque)
    cost: float = FIRST_GUESS  # seconds of CPU of a request, a running mean
    next_at: float = NEVER  # while others work, no further request begins before

    def begin(self, now: float) -> None:
        self.working += 1
        self.next_at = now + self.cost / settings.BUSY_SHARE


class Turns:
    """The lines of all callers of this process."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._lock = threading.Lock()
        # The caller who came last, the one who came last of the others, and when each did.
        self._last, self._before = ("", NEVER), ("", NEVER)

    def take(self, who: str, *, wait: float = LONGEST_WAIT, before_waiting: Callable[[], None] = lambda: None) -> None:
        """Wait for a turn. Raises `TooManyOfYoursError` if too many wait already, or for too long."""
        ticket = threading.Condition(self._lock)
        with self._lock:
            now = time.monotonic()
            self._note(who, now)
            line = self._lines.setdefault(who, _Line())
            # Who has one request at a time never waits.
            if not line.waiting and (not line.working or self._opens_at(who, line) <= now):
                line.begin(now)
                return
            if len(line.waiting) >= MOST_WAITING:
                raise _too_many()
            line.waiting.append(ticket)
        ends = time.monotonic() + wait
        try:
            before_waiting()
            with self._lock:
                self._wait(who, line, ticket, ends)
                line.begin(time.monotonic())
        finally:
            with self._lock:
                line.waiting.remove(ticket)
                self._call_next(who)

    def give_back(self, who: str, *, cost: float = 0.0) -> None:
        """End a turn whose request has cost so many seconds of CPU."""
        with self._lock:
            line = self._lines[who]
            line.working -= 1
            line.cost += (cost - line.cost) / 4
            self._call_next(who)

    def _wait(self, who: str, line: _Line, ticket: threading.Condition, ends: float) -> None:
        while True:
            now = time.monotonic()
            opens_at = self._opens_at(who, line) if line.waiting[0] is ticket else float("inf")
            if opens_at <= now:
                return
            if now >= ends:
                raise _too_many()
            ticket.wait(min(opens_at, ends) - now)

    def _opens_at(self, who: str, line: _Line) -> float:
        """Return when the next request of a line may begin, as far as that is known."""
        if line.working >= settings.REQUESTS_AT_ONCE:
            return float("inf")
        other_at = self._before[1] if self._last[0] == who else self._last[1]
        return min(line.next_at, other_at + LATELY)

    def _note(self, who: str, now: float) -> None:
        if self._last[0] != who:
            self._before = self._last
        self._last = (who, now)

    def _call_next(self, who: str) -> None:
        line = self._lines[who]
        if line.waiting:
            line.waiting[0].notify()
        elif not line.working:
            del self._lines[who]


def _too_many() -> TooManyOfYoursError:
    return TooManyOfYoursError("Too many of your requests are under way; try again later.")


TURNS = Turns()


class TurnThrottle(BaseThrottle):
    """Lets a request of the API begin when its caller has a turn. `turns` gives the turn back."""

    def allow_request(self, request: Request, view: object) -> bool:
        # Without the middleware nobody would give the turn back. A request has one turn, however many views it meets.
        if getattr(request._request, "turn_of", None) != "":
            return True
        who = f"user:{request.user.pk}" if request.user.is_authenticated else by_address(request._request)
        TURNS.take(who, before_waiting=_leave_the_database)
        request._request.turn_of = who  # type: ignore[attr-defined]  # for `turns`
        return True


def turns(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: gives the turn of a request back when its answer begins."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        request.turn_of = ""  # type: ignore[attr-defined]  # for `TurnThrottle`
        began = time.thread_time()
        try:
            return get_response(request)
        finally:
            if who := request.turn_of:  # type: ignore[attr-defined]
                TURNS.give_back(who, cost=time.thread_time() - began)

    return middleware


def _leave_the_database() -> None:
    """Give the connection back: a request that waits must not keep it from others."""
    if not connection.in_atomic_block:
        connection.close()
