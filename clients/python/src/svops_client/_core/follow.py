"""Follows the log over cuts, restarts and the end of tokens, without a gap or a repeat."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from svops_client._core import backoff
from svops_client._core.effects import (
    Authorize,
    Connect,
    Emit,
    HandshakeRefusedError,
    Op,
    Receive,
    Say,
    SocketClosedError,
    Wait,
    without_items,
)
from svops_client._core.http import RENEWALS, call, retry_after
from svops_client._core.reader import Reader, Wanted
from svops_client.errors import (
    ApiError,
    AuthenticationError,
    ConnectionLostError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    SVOpsError,
    TransportError,
    UnavailableError,
    WaitTimeoutError,
)

if TYPE_CHECKING:
    from svops_client._core.platform import Platform

PAGE = 1000
# So many refused handshakes in a row, and no connection between them: something on the way knows no WebSocket.
REFUSALS = 3
# A stream that is silent for so many heartbeats is dead.
SILENT_BEATS = 2.5
FINAL: dict[int, type[ApiError]] = {4400: InvalidRequestError, 4403: PermissionDeniedError, 4404: NotFoundError}
UNAUTHORIZED, TOO_SLOW, TOO_MANY = 4401, 4408, 4429


def follow(platform: Platform, reader: Reader, *, ends_at: float | None = None) -> Op[None]:
    """Emit the events after the reader's cursor, and then each as it happens, until `reader.is_over`.

    First over a WebSocket; where something on the way refuses WebSockets, by polling.
    """
    if platform.live:
        line = _Line(platform, reader, ends_at)
        while not reader.is_over and line.refusals < REFUSALS:
            yield from line.connection()
    while not reader.is_over:
        yield from _poll(platform, reader, ends_at)


def read_log(platform: Platform, reader: Reader) -> Op[None]:
    """Emit what the log has after the reader's cursor, and leave the reader at its end."""
    while True:
        query = {**reader.wanted.query, "after": reader.cursor or 0, "limit": PAGE}
        answer = (yield from call(platform, "GET", "/api/v1/events", query=query)).json
        for event in reader.page(answer):
            yield Emit(event)
        if len(answer["results"]) < PAGE:
            reader.caught_up()
            return


@dataclass
class _Line:
    """The connections of one reader, one after the other."""

    platform: Platform
    reader: Reader
    ends_at: float | None
    tries: int = 0  # since a connection last worked
    refusals: int = 0
    unauthorized: int = 0
    refused: str | None = None
    authorization: str | None = None

    def __post_init__(self) -> None:
        self.heard_at = self.platform.now()

    def connection(self) -> Op[None]:
        """Connect, read until the connection ends, and wait for as long as its end asks for."""
        try:
            yield from self._read()
        except SocketClosedError as exc:
            yield Wait(self._after_close(exc))
        except HandshakeRefusedError as exc:
            self.refusals += exc.status != 429
            yield Wait(self._pause(exc, at_least=retry_after(exc.headers)))
        except (TransportError, UnavailableError) as exc:
            yield Wait(self._pause(exc))

    def _read(self) -> Op[None]:
        reader = self.reader
        self.authorization = yield Authorize(self.refused)
        self.refused = None
        reader.begin()
        yield self._handshake()
        ready = yield from self._frame(self.platform.timeout)
        while ready["type"] != "connection.ready":
            list(reader.receive(ready))
            ready = yield from self._frame(self.platform.timeout)
        self.refusals = self.unauthorized = 0
        for text in reader.hello(ready, subscribes=not self.platform.credentials.is_ticket):
            yield Say(text)
        while not reader.is_over:
            frame = yield from self._frame(SILENT_BEATS * reader.heartbeat)
            for event in reader.receive(frame):
                yield Emit(event)
            self.tries = 0

    def _handshake(self) -> Connect:
        timeout, path = self.platform.timeout, self.reader.wanted.path
        # Never in the URL, which ends up in logs.
        headers = {"Authorization": self.authorization} if self.authorization else {}
        if self.platform.credentials.is_ticket:
            # A ticket is for one run. Its stream is the general one, and shows only that.
            path = "/api/v1/ws"
        return Connect(path, headers, timeout)

    def _frame(self, timeout: float) -> Op[dict[str, Any]]:
        """Return the next frame; raise if none comes within the timeout or before the end of all waiting."""
        left = timeout if self.ends_at is None else min(timeout, self.ends_at - self.platform.now())
        text = (yield Receive(left)) if left > 0 else None
        if text is not None:
            self.heard_at = self.platform.now()
            frame: dict[str, Any] = json.loads(text)
            return frame
        require_time(self.platform, self.ends_at)
        raise TransportError("The stream is silent.")

    def _after_close(self, exc: SocketClosedError) -> float:
        said = self.reader.last_error
        detail = str(said.get("detail") or exc.reason_or_code)
        if kind := FINAL.get(exc.code):
            raise kind(detail, status=exc.code - 4000, code=str(said.get("code", "stream_closed")), body=said) from exc
        if exc.code == UNAUTHORIZED:
            return self._after_unauthorized(exc, detail)
        if exc.code == TOO_SLOW:
            return 0.0
        return self._pause(exc, at_least=said.get("retry_after") if exc.code == TOO_MANY else None)

    def _after_unauthorized(self, exc: SocketClosedError, detail: str) -> float:
        """The token has ended: the next connection has another one, if there is one.

        A short-lived one may end before it gets through, so the first refusal of a new one is not the last word.
        """
        self.unauthorized += 1
        if self.unauthorized > RENEWALS or not self.platform.credentials.renewable:
            raise AuthenticationError(detail, status=401, code="not_authenticated") from exc
        self.refused = self.authorization
        return 0.0 if self.unauthorized == 1 else self._pause(exc)

    def _pause(self, exc: SVOpsError, *, at_least: float | None = None) -> float:
        require_patience(self.platform, self.heard_at, exc)
        require_time(self.platform, self.ends_at)
        pause = backoff.pause(self.tries, chance=self.platform.chance(), at_least=at_least)
        self.tries += 1
        return pause if self.ends_at is None else min(pause, max(0.0, self.ends_at - self.platform.now()))


def _poll(platform: Platform, reader: Reader, ends_at: float | None) -> Op[None]:
    """Read the log once and wait for a moment."""
    if reader.cursor is None:
        reader.cursor = yield from _head(platform)
    yield from patiently(platform, read_log, reader)
    if not reader.is_over:
        require_time(platform, ends_at)
        yield Wait(platform.poll_pause)


def _head(platform: Platform) -> Op[int]:
    """Return the end of the log: where a page ends that is not full. Events of this type are rare."""
    reader = Reader(Wanted(types=frozenset({"system.airflow_emptied"})))
    yield from without_items(read_log(platform, reader))
    return reader.cursor or 0


def patiently(platform: Platform, operation: Any, *arguments: Any) -> Op[Any]:
    """Run an operation that may be repeated, again and again while the platform is away, as long as patience lasts."""
    heard_at, tries = platform.now(), 0
    while True:
        try:
            return (yield from operation(platform, *arguments))
        except (TransportError, UnavailableError) as exc:
            require_patience(platform, heard_at, exc)
            yield Wait(backoff.pause(tries, chance=platform.chance()))
            tries += 1


def require_patience(platform: Platform, heard_at: float, exc: SVOpsError) -> None:
    away = platform.now() - heard_at
    if away > platform.patience:
        raise ConnectionLostError(f"The platform has been away for {away:.0f} s: {exc}") from exc


def require_time(platform: Platform, ends_at: float | None) -> None:
    if ends_at is not None and platform.now() >= ends_at:
        raise WaitTimeoutError("The time is over, and the run has not ended.")
