"""Credentials that somebody else gives us for a while, kept for all threads and renewed before they expire."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from .errors import AirflowError, AirflowUnavailableError

logger = logging.getLogger(__name__)

# The part of its life after which a token is renewed. The rest is the time in which a provider may be away.
RENEWED_AFTER = 0.8
# Seconds between two tries to renew a token that is still good.
PAUSE = 10.0
# Seconds after a refusal in which another one is believed: new credentials would be refused too.
REFUSED_FOR = 5.0


@dataclass(frozen=True)
class Credentials:
    """The headers that prove who we are. Times are seconds since the epoch; None: the end is not known."""

    headers: Mapping[str, str]
    fetched_at: float
    expires_at: float | None = None

    def __repr__(self) -> str:
        return f"Credentials(fetched_at={self.fetched_at}, expires_at={self.expires_at})"

    def is_due(self, now: float) -> bool:
        """Return whether it is time to renew them."""
        return self.expires_at is not None and (
            now >= self.fetched_at + RENEWED_AFTER * (self.expires_at - self.fetched_at)
        )

    def has_expired(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at


class Source(Protocol):
    """Where credentials come from. It is called by one thread at a time."""

    def fetch(self) -> Credentials:
        """Return new credentials. Raise `AirflowAuthError` if they are refused, else `AirflowUnavailableError`."""


class Store(Protocol):
    """Where the processes share credentials. No method raises: without the store, each process has its own."""

    def read(self) -> Credentials | None: ...

    def write(self, credentials: Credentials) -> None: ...

    def turn(self) -> AbstractContextManager[None]:
        """Let one process at a time renew the credentials."""


class Keeper:
    """The credentials for one Airflow in this process.

    A thread of its own asks for new ones, so that nobody waits for them longer than they can, and an answer that comes
    late is there for the next. While the old ones are good, nobody waits at all.
    """

    def __init__(
        self, source: Source, *, limit: float, store: Store | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._source = source
        self._limit = limit
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._current: Credentials | None = None
        self._refused: Mapping[str, str] | None = None
        self._renewal: _Renewal | None = None
        self._not_before = self._believed_until = 0.0

    def get(self, *, wait: float) -> Credentials:
        """Return good credentials. If they are not there within `wait` seconds, raise `AirflowUnavailableError`."""
        with self._lock:
            current, now = self._current, self._clock()
            if current is not None and not current.has_expired(now):
                if current.is_due(now) and now >= self._not_before:
                    self._begin()
                return current
            renewal = self._begin()
        try:
            return renewal.outcome.result(wait)
        except TimeoutError as exc:
            raise AirflowUnavailableError(f"the token for Airflow took more than {wait:g} s", sent=False) from exc

    def age(self) -> float:
        """Return for how many seconds we have had the credentials. Without any, 0."""
        with self._lock:
            return self._clock() - self._current.fetched_at if self._current else 0.0

    def refuse(self, headers: Mapping[str, str]) -> None:
        """Drop the credentials with these headers. Newer ones are kept, and so are all for a while after a refusal."""
        with self._lock:
            is_current = self._current is not None and self._current.headers == headers
            if is_current and self._clock() >= self._believed_until:
                self._refused, self._current = headers, None
                self._believed_until = self._clock() + REFUSED_FOR

    def _begin(self) -> _Renewal:
        """Return the renewal that is under way, or begin one. One that hangs is left to itself."""
        if self._renewal is None or self._renewal.hangs(self._limit):
            self._renewal = _Renewal()
            threading.Thread(target=self._renew, args=(self._renewal,), daemon=True).start()
        return self._renewal

    def _renew(self, renewal: _Renewal) -> None:
        try:
            fresh = self._fetch()
        except AirflowError as exc:
            self._settle(renewal, None)
            logger.warning("no new token for Airflow", extra={"error": str(exc)})
            renewal.outcome.set_exception(exc)
        except Exception as exc:
            self._settle(renewal, None)
            logger.exception("no new token for Airflow")
            failure = AirflowUnavailableError(f"no token for Airflow ({type(exc).__name__})", sent=False)
            renewal.outcome.set_exception(failure)
        else:
            self._settle(renewal, fresh)
            renewal.outcome.set_result(fresh)

    def _settle(self, renewal: _Renewal, fresh: Credentials | None) -> None:
        with self._lock:
            if fresh is not None and (self._current is None or self._current.fetched_at <= fresh.fetched_at):
                self._current = fresh
            # Also after a success: a provider may give a token that is due at once.
            self._not_before = self._clock() + PAUSE
            if self._renewal is renewal:
                self._renewal = None

    def _fetch(self) -> Credentials:
        if self._store is None:
            return self._source.fetch()
        if shared := self._good(self._store.read()):
            return shared
        with self._store.turn():
            if shared := self._good(self._store.read()):
                return shared
            fresh = self._source.fetch()
            self._store.write(fresh)
            return fresh

    def _good(self, shared: Credentials | None) -> Credentials | None:
        """Return what another process has left, unless it is due or is what Airflow has just refused."""
        is_good = shared is not None and not shared.is_due(self._clock()) and shared.headers != self._refused
        return shared if is_good else None


class _Renewal:
    """One request for new credentials."""

    def __init__(self) -> None:
        self.outcome: Future[Credentials] = Future()
        self._began = time.monotonic()

    def hangs(self, limit: float) -> bool:
        return time.monotonic() - self._began > limit
