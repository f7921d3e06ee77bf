"""The one HTTP client for URLs that users give. It does not let them reach networks that are closed to them.

It resolves a name once, checks every address, and connects to an address that it checked. A name server that answers
differently the second time gains nothing. The client follows no redirect, uses no proxy, and limits the time and the
bytes of the whole exchange. A leaf: it knows no Django.
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
from urllib.parse import SplitResult, quote, urlsplit

from notifications.addresses import IPAddress, Policy

EXCERPT_BYTES = 2_000
# IDNA 2003 and IDNA 2008 lead these to different hosts: ß, final sigma and the two joiners.
_AMBIGUOUS_IN_HOSTS = frozenset("ßς\u200c\u200d")
_NUMERIC_LABEL = re.compile(r"^(0x[0-9a-f]*|[0-9]+)$", re.IGNORECASE)


class RefusedError(Exception):
    """The client does not connect to this address. `str()` says why, for the user who gave it."""


class NoAnswerError(Exception):
    """The exchange was not completed. `str()` says what failed, without the URL."""


@dataclass(frozen=True)
class Deadline:
    """The end of the whole exchange, on the monotonic clock."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Return the seconds until then. Raises `TimeoutError` if it has passed."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


@dataclass(frozen=True, kw_only=True)
class Recipient:
    """The result for one of several recipients. `shown` is its address, masked; `key` recognises it at the next try.

    `outcome` is accepted, refused (for good) or waiting. `said` are the server's words. `gone`: the mailbox does not
    exist.
    """

    key: str
    shown: str
    outcome: str
    said: str = ""
    gone: bool = False


@dataclass(frozen=True)
class Answer:
    """The response, with the beginning of its body. `recipients` is empty where a message goes to one target."""

    status: int
    headers: Mapping[str, str]
    excerpt: str
    recipients: tuple[Recipient, ...] = ()


def split(url: str) -> SplitResult:
    """Return the parts of an http(s) URL as they are sent: in ASCII. Raises `RefusedError`."""
    if any(ord(character) <= 32 or ord(character) == 127 for character in url) or "\\" in url:
        raise RefusedError("The URL must not contain spaces, backslashes or control characters.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise RefusedError("Must be a URL.") from exc
    if parts.scheme not in {"http", "https"}:
        raise RefusedError("The URL must start with https:// or http://.")
    if "@" in parts.netloc:
        raise RefusedError("The URL must not contain a user name or password.")
    if not parts.hostname or port == 0:
        raise RefusedError("The URL must contain a host.")
    parts = _in_ascii(parts)
    check_host(parts.hostname or "")
    return parts


def _in_ascii(parts: SplitResult) -> SplitResult:
    """Return the parts with the host in IDNA and the rest percent-encoded. What is ASCII already stays as it is."""
    host = parts.hostname or ""
    try:
        if not host.isascii():
            port = "" if parts.port is None else f":{parts.port}"
            parts = parts._replace(netloc=f"{ascii_host(host)}{port}")
        encoded = {name: _percent_encoded(getattr(parts, name)) for name in ("path", "query", "fragment")}
    except UnicodeError as exc:
        raise RefusedError("The URL cannot be written in ASCII: write its host as xn--….") from exc
    return parts._replace(**encoded)


def _percent_encoded(text: str) -> str:
    return "".join(character if character.isascii() else quote(character) for character in text)


def ascii_host(host: str) -> str:
    """Return the host in IDNA. Raises `UnicodeError`, also if the versions of IDNA disagree about the host."""
    if _AMBIGUOUS_IN_HOSTS & set(host):
        raise UnicodeError("ambiguous in IDNA")
    return host.encode("idna").decode()


def check_host(host: str) -> None:
    """Refuse hosts that some resolvers read as a number: 2130706433, 0x7f.1 and 0177.0.0.1 are all 127.0.0.1."""
    last = host.rstrip(".").rpartition(".")[2]
    if _NUMERIC_LABEL.match(last) and _literal(host) is None:
        raise RefusedError("A host that is a number must be an IP address in its usual form.")


def _literal(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


@dataclass(frozen=True, kw_only=True)
class Client:
    """Posts under a policy. Thread-safe: it holds no connection."""

    policy: Policy = field(default_factory=Policy)
    timeout: float = 15
    apprise_workers: int = 2
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    def check(self, url: str) -> str:
        """Resolve the host, check its addresses, and return the URL in ASCII.

        Raises `RefusedError`, also for a name that does not exist.
        """
        parts = split(url)
        try:
            self.resolve(parts.hostname or "", _port(parts), Deadline.after(self.timeout))
        except NoAnswerError as exc:
            raise RefusedError(str(exc)) from exc
        return url if url.isascii() else parts.geturl()

    def reach(self, url: str) -> None:
        """Connect to the host of the URL and send nothing. Raises `RefusedError` or `NoAnswerError`."""
        try:
            self._connect(split(url), Deadline.after(self.timeout)).end()
        except TimeoutError as exc:
            raise NoAnswerError(f"no answer within {self.timeout:g} s") from exc
        except (OSError, ValueError) as exc:
            raise NoAnswerError(f"no answer: {_describe(exc)}") from exc

    def post(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one POST. Every status is an answer, also a redirect. Raises `RefusedError` or `NoAnswerError`."""
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
            raise NoAnswerError(f"no answer: {_describe(exc)}") from exc
        finally:
            if bounded:
                bounded.end()

    def resolve(self, host: str, port: int, deadline: Deadline) -> list[IPAddress]:
        """Return the addresses of the host if all are permitted. Raises `RefusedError` or `NoAnswerError`."""
        check_host(host)
        literal = _literal(host)
        addresses = [literal] if literal else _look_up(host, port, deadline)
        for address in addresses:
            if not self.policy.permits(address):
                raise RefusedError(unreachable(host))
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


def unreachable(host: str) -> str:
    """Say that SVOps sends nothing to the host: the same for a name that does not exist and for one that is inside."""
    return (
        f"{host} has no public address. Check the name; an operator can allow a private network with "
        "NOTIFICATION_ALLOWED_NETWORKS."
    )


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _host_header(parts: SplitResult) -> str:
    host = parts.hostname or ""
    name = f"[{host}]" if ":" in host else host
    return name if parts.port is None else f"{name}:{parts.port}"


def _look_up(host: str, port: int, deadline: Deadline) -> list[IPAddress]:
    # In a thread, because the resolver has no timeout. A lookup that hangs ends by itself, seconds later.
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
        raise NoAnswerError(unreachable(host)) from answer
    return list(dict.fromkeys(ipaddress.ip_address(info[4][0]) for info in answer))


def _dial(addresses: Sequence[IPAddress], port: int, deadline: Deadline) -> socket.socket:
    """Connect to the first address that answers. Each attempt leaves time for the addresses after it."""
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
    """The part of a socket that `http.client` uses. Each call ends at the deadline, however slowly bytes arrive."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock, self._deadline = sock, deadline

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._deadline.left())
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self._sock, self._deadline))

    def close(self) -> None:
        """Do nothing yet: `http.client` closes after the headers, and the body is still to be read."""

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
    """Return the beginning of the body. A body that breaks off is no error: the status counts."""
    parts: list[bytes] = []
    size = 0
    try:
        while size < EXCERPT_BYTES and (part := response.read1(EXCERPT_BYTES - size)):
            parts.append(part)
            size += len(part)
    except (OSError, http.client.HTTPException):
        pass
    return b"".join(parts).decode("utf-8", "replace").replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _describe(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({exc.verify_message})"
    if isinstance(exc, OSError) and exc.strerror and not isinstance(exc, ssl.SSLError):
        return exc.strerror.lower()
    return type(exc).__name__
