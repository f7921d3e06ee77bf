"""uvicorn's two protocols with limits on what a client may send before it is known, and on how long it may take.

uvicorn itself waits for a request's head and body for ever, and keeps a head of any size. The subclasses add limits and
nothing else. `svops.server` uses them; a test runs the attacks against the installed version.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from django.conf import settings
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

from rest import stopping

MOST_FRAGMENTS = 64  # of one message
CLOSE_TIMEOUT = 2.0  # seconds for a client's answer to our close frame
LARGEST_BACKLOG = 65_536  # bytes of pongs that a client has not read


class PatientHttp(HttpToolsProtocol):
    """HTTP/1.1. Answers 408 to a request that comes too slowly and 431 to a head that is too large."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = True
        self._has_begun = False
        self._head_size = 0
        self._waiting: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's too
        super().connection_made(transport)
        self._wait(settings.REQUEST_HEAD_TIMEOUT)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_stalling()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        # A stream would hold the stop for its whole grace period.
        stopping.begin()
        super().shutdown()

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_size += len(data)
            if self._waiting is None:
                self._wait(settings.REQUEST_HEAD_TIMEOUT)
        super().data_received(data)
        if self._in_head and self._head_size > settings.REQUEST_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._has_begun = True
        if self._waiting is None:
            self._wait(settings.REQUEST_HEAD_TIMEOUT)

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > settings.REQUEST_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            # The parser stops at an error of a callback, and so does `data_received`.
            raise ValueError("the head of the request is too large")
        self._in_head, self._head_size = False, 0
        super().on_headers_complete()
        self._wait(settings.REQUEST_BODY_TIMEOUT)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._stop_waiting()
        self._in_head, self._has_begun = True, False

    def handle_websocket_upgrade(self) -> None:
        self._stop_waiting()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        # A head that is too large has had its answer.
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_stalling()
        self._stalled = self.loop.call_later(settings.RESPONSE_STALL_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_stalling()

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._waiting = self.loop.call_later(seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._waiting:
            self._waiting.cancel()
            self._waiting = None

    def _stop_stalling(self) -> None:
        if self._stalled:
            self._stalled.cancel()
            self._stalled = None

    def _give_up(self) -> None:
        is_answering = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        if self._in_head and (self.pipeline or is_answering):
            # The next request is slow. The answer to the one before goes first.
            self._wait(settings.REQUEST_HEAD_TIMEOUT)
            return
        # A browser that opens a connection in advance has not asked for anything.
        is_idle = self._in_head and not self._has_begun
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, is_silent=is_answering or is_idle)

    def _refuse(self, status: HTTPStatus, *, is_silent: bool = False) -> None:
        self._stop_waiting()
        if self.transport.is_closing():
            return
        if not is_silent:
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """WebSocket. The options of `svops.server` set the largest message; this bounds what has no option."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.close_timeout = CLOSE_TIMEOUT

    def handle_cont(self, event: Frame) -> None:
        # Empty fragments have no size that the largest message could bound.
        if len(self.frames) < MOST_FRAGMENTS:
            super().handle_cont(event)
        elif not self.close_sent:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
            self.handle_parser_exception()

    def handle_ping(self) -> None:
        super().handle_ping()
        if self.transport.get_write_buffer_size() > LARGEST_BACKLOG and not self.writable.is_set():
            self.transport.abort()
