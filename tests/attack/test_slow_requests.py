"""A request has so long for its head and so long for its body. A client that does not read loses its connection."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress

import requests

from tests.attack.conftest import BODY_TIMEOUT, HEAD_TIMEOUT, STALL_TIMEOUT
from tests.attack.target import PATIENCE, Target, until_closed
from tests.live.parts import until

HEAD = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
BODY = HEAD + b"Content-Length: 1000\r\n\r\n"


def drip(connections: Sequence[socket.socket], byte: bytes, *, longest: float) -> list[bytes]:
    """Send a byte over each connection again and again until the server has closed all. Return what it sent."""
    left, received = list(connections), dict.fromkeys(connections, b"")
    ends = time.monotonic() + longest
    for connection in left:
        connection.settimeout(0.05)
    while left:
        assert time.monotonic() < ends, f"{len(left)} of {len(connections)} are still open"
        for connection in list(left):
            try:
                connection.sendall(byte)
                part = connection.recv(65_536)
            except TimeoutError:
                continue
            except OSError:
                part = b""
            received[connection] += part
            if not part:
                left.remove(connection)
    return list(received.values())


def test_heads_that_never_end_are_closed(web: Target) -> None:
    """Before: 20 of 20 were still open after 45 s."""
    with ExitStack() as stack:
        slow = [stack.enter_context(web.connect()) for _ in range(20)]
        for connection in slow:
            connection.sendall(HEAD)

        answers = drip(slow, b"x", longest=HEAD_TIMEOUT + PATIENCE)

    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers if answer)
    assert any(answers)


def test_bodies_that_never_end_are_closed(web: Target) -> None:
    """Before: 20 of 20 were still open after 45 s."""
    with ExitStack() as stack:
        slow = [stack.enter_context(web.connect()) for _ in range(20)]
        for connection in slow:
            connection.sendall(BODY)

        answers = drip(slow, b" ", longest=BODY_TIMEOUT + PATIENCE)

    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers if answer)
    assert any(answers)


def test_a_connection_on_which_nothing_comes_is_closed_without_a_word(web: Target) -> None:
    """Before: it stayed open for ever."""
    with web.connect() as silent:
        assert until_closed(silent) == b""


def test_a_second_request_on_a_connection_has_the_same_time(web: Target) -> None:
    with web.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /healthz HTTP/1.1\r\nHo")

        answers = until_closed(connection)

    assert answers.startswith(b"HTTP/1.1 200 ")
    assert answers.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 408 " in answers


def test_a_request_that_comes_in_pieces_but_in_time_is_answered(web: Target) -> None:
    body = b'{"username": "nobody", "password": "x"}'
    whole = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    answer = web.raw(*(whole[i : i + 7] for i in range(0, len(whole), 7)))

    assert answer.startswith(b"HTTP/1.1 401 ")


def test_a_head_without_end_is_refused_before_it_fills_the_memory(web: Target) -> None:
    """Before: a head of 50 MB took more than 50 MB, and there was no limit."""
    with web.measured() as cost, web.connect() as connection:
        sent = 0
        with suppress(OSError):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nX-Long: ")
            for _ in range(200):
                connection.sendall(b"a" * 250_000)
                sent += 250_000
        answer = until_closed(connection)

    assert answer.startswith(b"HTTP/1.1 431 ") or not answer
    assert sent < 50_000_000
    assert cost.memory_mb < 25


def test_a_head_with_many_headers_is_refused(web: Target) -> None:
    """Before: it was read, whatever its size."""
    many = b"".join(b"X-%d: value\r\n" % number for number in range(5_000))

    answer = web.raw(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + many + b"\r\n")

    assert answer.startswith(b"HTTP/1.1 431 ") or not answer


def test_a_client_that_reads_nothing_of_its_answers_loses_the_connection(web: Target) -> None:
    """Before: the answer, and what made it, waited for ever."""
    page = "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"
    with web.connect() as deaf:
        # More than the buffers of the system take.
        deaf.sendall(f"GET {page} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() * 20)
        ours = deaf.getsockname()

        until(lambda: ours not in web.peers(), within=STALL_TIMEOUT + PATIENCE)

        assert until_closed(deaf).startswith(b"HTTP/1.1 200 ")


def test_others_are_answered_while_slow_clients_wait(web: Target) -> None:
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(web.connect()).sendall(BODY)

        def answers() -> bool:
            return requests.get(f"{web.url}/healthz", timeout=PATIENCE).ok

        until(answers, within=PATIENCE)
