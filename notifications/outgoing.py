"""The one HTTP client for addresses that users give: it goes nowhere that they must not reach through us.

It resolves a name once, checks every address that comes back, and connects to the one that it checked, so that a
name server which answers differently the second time gains nothing. It follows no redirect, uses no proxy, and
bounds the whole exchange in time and in bytes. A leaf: it knows no Django.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

EXCERPT_BYTES = 2_000
# Networks that embed an IPv4 address at the given bit from the right: a way round a check of the outer address.
_EMBEDDING: list[tuple[IPNetwork, int]] = [
    (ipaddress.ip_network("::ffff:0:0/96"), 0),  # IPv4-mapped
    (ipaddress.ip_network("::ffff:0:0:0/96"), 0),  # IPv4-translated
    (ipaddress.ip_network("::/96"), 0),  # IPv4-compatible
    (ipaddress.ip_network("64:ff9b::/96"), 0),  # NAT64
    (ipaddress.ip_network("64:ff9b:1::/48"), 0),  # local NAT64
    (ipaddress.ip_network("2002::/16"), 80),  # 6to4
]
_TEREDO = ipaddress.ip_network("2001::/32")
_NOT_PUBLIC: list[IPNetwork] = [
    ipaddress.ip_network(network)
    for network in ("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "fec0::/10")
]
_NUMERIC_LABEL = re.compile(r"^(0x[0-9a-f]*|[0-9]+)$", re.IGNORECASE)


class RefusedError(Exception):
    """We do not go there; `str()` says why and is fit to be shown to who gave the address."""


class NoAnswerError(Exception):
    """The exchange did not come to its end; `str()` says how far it came, without the URL."""


@dataclass(frozen=True)
class Policy:
    """Public addresses may be reached, and what the operator allows."""

    allowed: tuple[IPNetwork, ...] = ()

    def permits(self, address: IPAddress) -> bool:
        return any(_within(address, network) for network in self.allowed) or is_public(address)


def _within(address: IPAddress, network: IPNetwork) -> bool:
    mapped = getattr(address, "ipv4_mapped", None)
    return address in network or (mapped is not None and mapped in network)


def is_public(address: IPAddress) -> bool:
    """Whether the address, and every IPv4 address embedded in it, is one of the public internet."""
    special = (
        address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_reserved
        or address.is_unspecified
    )
    embedded = list(_embedded(address))
    if embedded:
        # What wraps an address is itself "reserved" or "private" to the library; what is inside decides.
        return all(is_public(inner) for inner in embedded)
    return address.is_global and not special and not any(address in network for network in _NOT_PUBLIC)


def _embedded(address: IPAddress) -> list[ipaddress.IPv4Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return []
    if address in _TEREDO:
        server, client = (int(address) >> 64) & 0xFFFFFFFF, ~int(address) & 0xFFFFFFFF
        return [ipaddress.IPv4Address(server), ipaddress.IPv4Address(client)]
    for network, shift in _EMBEDDING:
        if address in network:
            return [ipaddress.IPv4Address((int(address) >> shift) & 0xFFFFFFFF)]
    return []


@dataclass(frozen=True)
class Deadline:
    """The end of the whole exchange, on the monotonic clock."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds until then; raises `TimeoutError` when it has passed."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


@dataclass(frozen=True)
class Answer:
    """What came back, its body cut short."""

    status: int
    headers: Mapping[str, str]
    excerpt: str


def split(url: str) -> SplitResult:
    """The parts of an http(s) URL that we would go to by its form; raises `RefusedError`."""
    if any(ord(character) <= 32 or ord(character) == 127 for character in url) or "\\" in url:
        raise RefusedError("The URL contains spaces or control characters.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise RefusedError("This is not a URL.") from exc
    if parts.scheme not in {"http", "https"}:
        raise RefusedError("The URL must start with https:// or http://.")
    if "@" in parts.netloc:
        raise RefusedError("A user name or password in the URL is not accepted.")
    if not parts.hostname or port == 0:
        raise RefusedError("The URL names no host.")
    check_host(parts.hostname)
    return parts


def check_host(host: str) -> None:
    """Refuse hosts that some resolvers read as a number: 2130706433, 0x7f.1 and 0177.0.0.1 are all 127.0.0.1."""
    last = host.rstrip(".").rpartition(".")[2]
    if _NUMERIC_LABEL.match(last) and _literal(host) is None:
        raise RefusedError("The host is a number but not an IP address in its usual form.")


def _literal(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


@dataclass(frozen=True, kw_only=True)
class Client:
    """`post` under a policy. Thread-safe: it holds no connection."""

    policy: Policy = Policy()
    timeout: float = 15
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    def check(self, url: str) -> None:
        """Resolve the host and check where it leads; raises `RefusedError`, for a name that does not exist too."""
        parts = split(url)
        try:
            self.resolve(parts.hostname or "", _port(parts), Deadline.after(self.timeout))
        except NoAnswerError as exc:
            raise RefusedError(str(exc)) from exc

    def post(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> Answer:
        """One POST; raises `RefusedError` or `NoAnswerError`. Every status is an answer, a redirect too."""
        parts, deadline = split(url), Deadline.after(self.timeout)
        connection = http.client.HTTPConnection(parts.hostname or "", _port(parts))
        bounded = None
        try:
            bounded = self._connect(parts, deadline)
            connection.sock = bounded
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            sent = {"Host": _host_header(parts), "Connection": "close", "User-Agent": "SVOps/1", **headers}
            connection.request("POST", target, body=body, headers=sent)
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), _excerpt(response))
        except TimeoutError as exc:
            raise NoAnswerError(f"no complete answer within {self.timeout:g} s") from exc
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise NoAnswerError(f"no answer: {_what(exc)}") from exc
        finally:
            if bounded:
                bounded.end()

    def resolve(self, host: str, port: int, deadline: Deadline) -> list[IPAddress]:
        """The addresses of the host, all of which may be reached; raises `RefusedError` or `NoAnswerError`."""
        check_host(host)
        literal = _literal(host)
        addresses = [literal] if literal else _look_up(host, port, deadline)
        for address in addresses:
            if not self.policy.permits(address):
                raise RefusedError(
                    f"{host} leads to the address {address}, which is not public: an operator can allow it with "
                    "NOTIFICATION_ALLOWED_NETWORKS."
                )
        return addresses

    def _connect(self, parts: SplitResult, deadline: Deadline) -> _Bounded:
        host, port = parts.hostname or "", _port(parts)
        sock = _dial(self.resolve(host, port, deadline), port, deadline)
        if parts.scheme == "https":
            try:
                sock.settimeout(deadline.left())
                sock = self.tls.wrap_socket(sock, server_hostname=host)
            except BaseException:
                sock.close()
                raise
        return _Bounded(sock, deadline)


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _host_header(parts: SplitResult) -> str:
    host = parts.hostname or ""
    name = f"[{host}]" if ":" in host else host.encode("idna").decode()
    return name if parts.port is None else f"{name}:{parts.port}"


def _look_up(host: str, port: int, deadline: Deadline) -> list[IPAddress]:
    # In a thread, because the resolver knows no timeout. One that hangs ends by itself, seconds later.
    found: queue.SimpleQueue[list[Any] | OSError | UnicodeError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as exc:
            found.put(exc)

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        answer = found.get(timeout=deadline.left())
    except queue.Empty:
        raise NoAnswerError("the name server does not answer") from None
    if isinstance(answer, Exception):
        raise NoAnswerError(f"the host {host} can not be resolved") from answer
    return list(dict.fromkeys(ipaddress.ip_address(info[4][0]) for info in answer))


def _dial(addresses: Sequence[IPAddress], port: int, deadline: Deadline) -> socket.socket:
    """Connect to the first address that answers, leaving time for those behind it."""
    error: OSError = OSError("the host has no address")
    for index, address in enumerate(addresses):
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(deadline.left() / (len(addresses) - index))
            sock.connect((str(address), port))
        except OSError as exc:
            sock.close()
            error = exc
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
    raise error


class _Bounded:
    """What `http.client` needs of a socket, each call of which ends with the deadline: one byte a second is no way
    to hold us."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock, self._deadline = sock, deadline

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._deadline.left())
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self._sock, self._deadline))

    def close(self) -> None:
        """Nothing yet: `http.client` says this as soon as it has the headers, with the body still to come."""

    def end(self) -> None:
        self._sock.close()


class _Incoming(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock, self._deadline = sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._deadline.left())
        return self._sock.recv_into(buffer)


def _excerpt(response: http.client.HTTPResponse) -> str:
    """The beginning of the body. The status is what counts: a body that breaks off does not change it."""
    parts: list[bytes] = []
    size = 0
    try:
        while size < EXCERPT_BYTES and (part := response.read1(EXCERPT_BYTES - size)):
            parts.append(part)
            size += len(part)
    except (OSError, http.client.HTTPException):
        pass
    return b"".join(parts).decode("utf-8", "replace").replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _what(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not good ({exc.verify_message})"
    if isinstance(exc, OSError) and exc.strerror and not isinstance(exc, ssl.SSLError):
        return exc.strerror.lower()
    return type(exc).__name__
