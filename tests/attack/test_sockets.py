"""Sockets of nobody: what they may send, how many there may be, and what is left of them."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import repeat

import pytest

from accounts.models import Role
from tests.attack.conftest import UNSIGNED, UNSIGNED_PER_ADDRESS
from tests.attack.target import PATIENCE, Target, until_closed
from tests.live.conftest import new_user, token_of
from tests.live.parts import until

AUTH_TIMEOUT = 10.0  # seconds: what STREAM_AUTH_TIMEOUT is by default
TEXT, CONTINUATION, PING = 0x1, 0x0, 0x9


def handshake(address: str, *, token: str = "") -> bytes:
    lines = [
        "GET /api/v1/ws HTTP/1.1",
        "Host: 127.0.0.1",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        f"X-Forwarded-For: {address}",
        *([f"Authorization: Bearer {token}"] if token else []),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def head_of_frame(opcode: int, length: int, *, fin: bool = True) -> bytes:
    first = bytes([(0x80 if fin else 0) | opcode])
    if length < 126:
        size = bytes([0x80 | length])
    elif length < 65_536:
        size = bytes([0x80 | 126]) + struct.pack("!H", length)
    else:
        size = bytes([0x80 | 127]) + struct.pack("!Q", length)
    return first + size + b"\0\0\0\0"  # a mask of zeros changes nothing


def opened(web: Target, stack: ExitStack, address: str, *, token: str = "") -> tuple[socket.socket, bytes]:
    """Connect, and return the socket with the first bytes of the answer."""
    connection = stack.enter_context(web.connect())
    connection.sendall(handshake(address, token=token))
    return connection, connection.recv(4096)


def entered(web: Target, stack: ExitStack, address: str, *, token: str = "") -> tuple[socket.socket, bytes]:
    """Connect until there is a place: the server may take a moment to notice that the sockets of a test have left."""
    found: list[tuple[socket.socket, bytes]] = []

    def is_in() -> bool:
        connection, answer = opened(web, stack, address, token=token)
        if answer.startswith(b"HTTP/1.1 101 "):
            found.append((connection, answer))
        return bool(found)

    until(is_in, within=PATIENCE)
    return found[0]


@contextmanager
def sockets(web: Target, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [entered(web, stack, f"10.1.0.{number // 10}")[0] for number in range(count)]


def test_unfinished_frames_take_no_memory(web: Target) -> None:
    """Before: 60 sockets with an unfinished frame of 16 MB each took 1 GB, and closing them did not give it back."""
    with sockets(web, 1):
        before = web.memory_mb
    with sockets(web, UNSIGNED) as found:
        for connection in found:
            with suppress(OSError):
                connection.sendall(head_of_frame(TEXT, 15_000_000))
                for _ in range(50):
                    connection.sendall(b" " * 200_000)
        during = web.memory_mb

    assert during < before * 1.1 + 10
    until(lambda: web.memory_mb < before * 1.1 + 10, within=PATIENCE)


def test_a_message_that_is_too_large_is_refused_by_its_head(web: Target) -> None:
    """Before: the server read up to 16 MB, and only then looked at STREAM_MESSAGE_BYTES."""
    with sockets(web, 1) as [connection]:
        connection.sendall(head_of_frame(TEXT, 16_385))

        assert close_code(until_closed(connection)) == 1009


@pytest.mark.parametrize("length", [0, 1_000])
def test_fragments_add_up(web: Target, length: int) -> None:
    """Before: 16 MB of them, and empty ones without end."""
    fragment = head_of_frame(CONTINUATION, length, fin=False) + b" " * length
    with sockets(web, 1) as [connection]:
        with suppress(OSError):
            connection.sendall(head_of_frame(TEXT, length, fin=False) + b" " * length + fragment * 100)

        assert close_code(until_closed(connection)) == 1009


def test_a_flood_of_pings_whose_answers_nobody_reads_ends(web: Target) -> None:
    """Before: the answers waited in memory, as many as came."""
    ping = (head_of_frame(PING, 125) + b" " * 125) * 1_000
    with web.measured() as cost, sockets(web, 1) as [connection]:
        sent = 0
        try:
            while sent < 50_000_000:
                connection.sendall(ping)
                sent += len(ping)
        except OSError:
            pass

    assert sent < 50_000_000
    assert cost.memory_mb < 25


def until_refused(web: Target, addresses: Iterator[str]) -> tuple[bytes, int]:
    """Open sockets until one is refused. Return that answer, and how many had time to sign in then."""
    times: list[float] = []
    refused: list[bytes] = []

    def is_refused() -> bool:
        began = time.monotonic()
        answer = opened(web, stack, next(addresses))[1]
        if answer[9:12] == b"101":
            times.append(began)
        else:
            refused.append(answer)
        return bool(refused)

    with ExitStack() as stack:
        until(is_refused, within=PATIENCE)
        return refused[0], sum(began > time.monotonic() - AUTH_TIMEOUT for began in times)


def test_sockets_without_sign_in_of_one_address_are_limited(web: Target) -> None:
    """Before: as many as there were files."""
    answer, count = until_refused(web, repeat("10.3.0.1"))

    assert count <= UNSIGNED_PER_ADDRESS
    assert answer[9:12] == b"429"
    assert b"retry-after: 5" in answer.lower()
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "throttled"


def test_sockets_without_sign_in_of_all_addresses_together_are_limited(web: Target) -> None:
    """Before: as many as there were files."""
    answer, count = until_refused(web, (f"10.4.{number // 250}.{number % 250}" for number in range(10**4)))

    assert answer[9:12] == b"429"
    assert count <= UNSIGNED


def test_a_socket_that_ends_before_its_sign_in_makes_no_room_for_the_next(web: Target) -> None:
    """Before: an address could open and end as many sockets as it liked, at 1.2 ms of CPU each."""

    def addresses() -> Iterator[str]:
        while True:
            with ExitStack() as ended:
                opened(web, ended, "10.6.0.1")
            yield "10.6.0.1"

    answer, count = until_refused(web, addresses())

    assert answer[9:12] == b"429"
    assert count <= UNSIGNED_PER_ADDRESS // 2


def test_a_socket_that_has_signed_in_takes_no_place_at_the_door(web: Target) -> None:
    token = token_of(new_user(Role.USER))
    with ExitStack() as stack:
        for _ in range(UNSIGNED_PER_ADDRESS + 5):
            connection, answer = entered(web, stack, "10.5.0.1", token=token)
            while b"connection.ready" not in answer:
                answer += connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 101 ")


def close_code(received: bytes) -> int:
    """Return the code of the close frame, which is the last frame of the server."""
    at = received.rindex(b"\x88")
    code: int = struct.unpack("!H", received[at + 2 : at + 4])[0]
    return code
