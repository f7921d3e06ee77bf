"""A real HTTP server with scripted behaviour: it answers, fails, hangs, or sends without end."""

from __future__ import annotations

import math
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DEADLINE = 20.0


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Behaviour = Callable[["Handler"], None]


def answer(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    """Answer with this status. Names of headers have underscores: `retry_after="7"`."""

    def behave(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return behave


def half_close(handler: Handler) -> None:
    """Read the request and close the connection without an answer."""
    handler.connection.shutdown(1)


def late_body(handler: Handler) -> None:
    """Send the body a while after the headers."""
    handler.send_response(500)
    handler.end_headers()
    handler.receiver.stopped.wait(0.1)
    handler.wfile.write(b"explained ")
    handler.receiver.stopped.wait(0.1)
    handler.wfile.write(b"later")


def break_off(handler: Handler) -> None:
    """Announce a longer body than is sent."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    handler.wfile.write(b"the beginning")


def endless_body(handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    _until_gone(handler, b"x" * 65_536, pause=0)


def endless_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    _until_gone(handler, b"X-More: and more\r\n", pause=0)


def dripping_headers(handler: Handler) -> None:
    """Send one byte from time to time. Each read returns quickly, but the whole answer takes `DEADLINE` seconds."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    _until_gone(handler, b"x", pause=0.05, seconds=DEADLINE)
    handler.wfile.write(b"\r\n\r\n")


def garbage(handler: Handler) -> None:
    handler.wfile.write(b"\x00\x01 this is not HTTP\r\n\r\n")


def _until_gone(handler: Handler, part: bytes, *, pause: float, seconds: float = math.inf) -> None:
    stopped, end = handler.receiver.stopped, time.monotonic() + seconds
    try:
        while not stopped.wait(pause) and time.monotonic() < end:
            handler.wfile.write(part)
    except OSError:
        return


@dataclass
class Receiver:
    """Uses `behaviours` one after the other, then `otherwise`. A path in `at` has its own behaviour."""

    received: list[Received] = field(default_factory=list)
    behaviours: deque[Behaviour] = field(default_factory=deque)
    otherwise: Behaviour = field(default_factory=lambda: answer(200, b"ok"))
    at: dict[str, Behaviour] = field(default_factory=dict)
    stopped: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def hang(self, handler: Handler) -> None:
        """Say nothing for `DEADLINE` seconds, or until the receiver ends."""
        self.stopped.wait(DEADLINE)

    def answer_once(self, condition: Callable[[Counter[str]], bool], status: int) -> Behaviour:
        """Say nothing until the counts of requests by path meet the condition, then answer; 504 if they never do."""

        def behave(handler: Handler) -> None:
            met = self._wait(lambda: condition(Counter(request.path for request in list(self.received))))
            answer(status if met else 504)(handler)

        return behave

    def next(self, request: Received) -> Behaviour:
        with self.lock:
            self.received.append(request)
            if request.path in self.at:
                return self.at[request.path]
            return self.behaviours.popleft() if self.behaviours else self.otherwise

    def wait_for(self, count: int) -> list[Received]:
        assert self._wait(lambda: len(self.received) >= count)
        return self.received

    def _wait(self, condition: Callable[[], bool]) -> bool:
        end = time.monotonic() + DEADLINE
        while not condition() and time.monotonic() < end and not self.stopped.is_set():
            self.stopped.wait(0.01)
        return condition()


class Handler(BaseHTTPRequestHandler):
    receiver: Receiver
    protocol_version = "HTTP/1.1"

    def _take(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.close_connection = True
        request = Received(self.command, self.path, dict(self.headers), body)
        try:
            self.receiver.next(request)(self)
        except OSError:
            return

    do_POST = do_GET = _take  # noqa: N815 - the base class has these names

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that go away: that is part of the tests."""


@contextmanager
def running(receiver: Receiver, *, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    server = _Server(("127.0.0.1", 0), type("Bound", (Handler,), {"receiver": receiver}))
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    receiver.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    try:
        yield receiver
    finally:
        receiver.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
