"""HTTP to Airflow: pooled, limited, with a deadline. Every failure becomes one of our errors."""

import json as jsonlib
import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from http import HTTPStatus
from typing import Any, Self

import requests
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from .access import Access
from .errors import (
    AirflowAuthError,
    AirflowBusyError,
    AirflowConflictError,
    AirflowError,
    AirflowNotFoundError,
    AirflowProtocolError,
    AirflowRejectedError,
    AirflowTooLargeError,
    AirflowUnavailableError,
)
from .pace import Pace
from .sessions import prepare

Params = Mapping[str, str | int | list[str]]

# A task may log without end, and Airflow answers with the whole log. A worker's memory is limited.
MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_LINE_BYTES = 256 * 1024
LINE_END_BYTES = 8 * 1024
CHUNK_BYTES = 64 * 1024
MAX_REASON_CHARS = 500


@dataclass(frozen=True)
class Timeout:
    """Seconds to connect, between two bytes of the answer, and for the whole answer.

    A log has its own limits: Airflow reads and parses all of it before it sends the first byte. `slot` is the wait for
    one of our own connections.
    """

    connect: float = 2.0
    read: float = 10.0
    total: float = 60.0
    log_read: float = 10.0
    log_total: float = 60.0
    slot: float = 3.0


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    cookies: Mapping[str, str] = field(default_factory=dict)
    location: str = ""
    date: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        try:
            return jsonlib.loads(self.body)
        except ValueError as exc:
            raise AirflowProtocolError("Airflow's answer is not JSON", status=self.status) from exc

    @property
    def is_success(self) -> bool:
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def problem(self) -> Mapping[str, Any] | None:
        """Return the error in Airflow's own words. None if something else (a proxy, a bug) answered."""
        try:
            body = jsonlib.loads(self.body)
        except ValueError:
            return None
        return body if isinstance(body, dict) and ("detail" in body or "title" in body) else None

    @property
    def reason(self) -> str:
        """Return why Airflow refused, as one short text. Without a text, return the status."""
        problem = self.problem or {}
        text = _reason(problem.get("detail")) or _reason(problem.get("title"))
        return (text or f"HTTP {self.status} {_phrase(self.status)}".rstrip())[:MAX_REASON_CHARS]

    def checked(self) -> Self:
        """Return this answer if it is a success. Else raise the error that it means."""
        if self.is_success:
            return self
        raise self._error()

    def _error(self) -> AirflowError:
        if self.status == HTTPStatus.NOT_FOUND and self.problem is None:
            # A gateway without its backend answers this too, so it does not prove that anything is missing.
            return AirflowUnavailableError("a 404 that is not Airflow's", status=self.status)
        kind = _ERRORS.get(self.status)
        if kind is None and self.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            kind = AirflowUnavailableError
        if kind is None and self.status < HTTPStatus.BAD_REQUEST:
            kind = AirflowProtocolError
        return (kind or AirflowRejectedError)(self.reason, status=self.status)


@dataclass(frozen=True)
class RawLine:
    """A line of an answer. If it is too long, only its `start` and its `end`; `size` counts all of its bytes."""

    start: bytes
    size: int
    end: bytes = b""

    @property
    def is_cut(self) -> bool:
        return self.size > len(self.start)


_ERRORS: dict[int, type[AirflowError]] = {
    HTTPStatus.UNAUTHORIZED: AirflowAuthError,
    HTTPStatus.FORBIDDEN: AirflowAuthError,
    HTTPStatus.NOT_FOUND: AirflowNotFoundError,
    HTTPStatus.REQUEST_TIMEOUT: AirflowUnavailableError,
    HTTPStatus.CONFLICT: AirflowConflictError,
    HTTPStatus.TOO_MANY_REQUESTS: AirflowUnavailableError,
}


class Wire:
    """One pooled session to one Airflow, for any number of threads.

    At most `pool_size` requests run at once: with sixteen parallel lists, a default Airflow answers HTTP 500.
    Redirects are not followed, cookies not kept, and proxies of the environment not used.
    """

    # Rows of a page of POST …/list, which Airflow itself does not limit.
    batch_size = 1000

    def __init__(self, access: Access, *, timeout: Timeout, pool_size: int, pace: Pace | None = None) -> None:
        self._base_url = access.base_url.rstrip("/")
        self._headers = dict(access.headers)
        self._timeout = timeout
        self._pace = pace
        self._slots = threading.BoundedSemaphore(pool_size)
        self._session = requests.Session()
        prepare(self._session, access, pool_size=pool_size)
        self._limit = threading.local()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Limit all requests of this thread meanwhile, together: none goes on for long after `seconds`.

        One that begins just before may take as long again to connect, to begin its answer, and to end it.
        """
        self._limit.at = time.monotonic() + seconds
        try:
            yield
        finally:
            del self._limit.at

    @property
    def patience(self) -> float:
        """Return how many seconds this thread may wait for the first byte of an answer."""
        return self._timeouts().read

    def _timeouts(self) -> Timeout:
        """Return the limits of the next request of this thread."""
        usual = self._timeout
        left = getattr(self._limit, "at", math.inf) - time.monotonic()
        if left <= 0:
            # Airflow may have executed an earlier request of the same command.
            raise AirflowUnavailableError("there was no time left to ask Airflow")
        limits = {name: min(seconds, left) for name, seconds in asdict(usual).items()}
        return Timeout(**limits)

    def exchange(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        json: object = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        at_most: int | None = None,
    ) -> Answer:
        """Send one request and return any HTTP answer. Raise `AirflowUnavailableError` if there is none.

        A body with more than `at_most` bytes is not read to its end: `AirflowTooLargeError`.
        """
        body = content if form is None else form
        with self._slot(), _failures_translated():
            timeout = self._timeouts()
            deadline = time.monotonic() + timeout.total
            with self._request(method, path, timeout, params=params, json=json, body=body, headers=headers) as response:
                return Answer(
                    response.status_code,
                    _body(response.raw, deadline=deadline, at_most=at_most),
                    cookies=_cookies(response),
                    location=response.headers.get("Location", ""),
                    date=response.headers.get("Date", ""),
                    headers=response.headers,
                )

    @contextmanager
    def lines(
        self, path: str, *, params: Params | None, headers: Mapping[str, str]
    ) -> Iterator[tuple[Answer, Iterator[RawLine]]]:
        """GET an answer of any length, line by line. An answer that is no success is read and has no lines.

        One line at a time is in memory; if it is too long, only its two ends. The connection is held meanwhile.
        """
        with self._slot(), _failures_translated():
            timeout = self._timeouts()
            timeout = replace(timeout, read=timeout.log_read, total=timeout.log_total)
            deadline = time.monotonic() + timeout.total
            with self._request("GET", path, timeout, params=params, headers=headers) as response:
                if HTTPStatus.OK <= response.status_code < HTTPStatus.MULTIPLE_CHOICES:
                    yield Answer(response.status_code, b""), lines_of(_chunks(response.raw, deadline=deadline))
                else:
                    yield Answer(response.status_code, _body(response.raw, deadline=deadline)), iter(())

    @contextmanager
    def turn(self, lock: threading.Lock) -> Iterator[None]:
        """Hold `lock` while one thread calls for all. Raise `AirflowUnavailableError` when a thread waits too long.

        Without this limit, threads that find Airflow hanging would wait one after the other.
        """
        if not lock.acquire(timeout=self.patience):
            raise AirflowUnavailableError("another request still waits for Airflow's first answer", sent=False)
        try:
            yield
        finally:
            lock.release()

    def close(self) -> None:
        self._session.close()

    def _request(
        self,
        method: str,
        path: str,
        timeout: Timeout,
        *,
        params: Params | None,
        headers: Mapping[str, str] | None,
        json: object = None,
        body: Mapping[str, str] | bytes | None = None,
    ) -> requests.Response:
        return self._session.request(
            method,
            f"{self._base_url}{path}",
            params=params,
            json=json,
            data=body,
            headers={"Accept": "application/json", **self._headers, **(headers or {})},
            timeout=(timeout.connect, timeout.read),
            allow_redirects=False,
            stream=True,
        )

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if not self._slots.acquire(timeout=self._timeouts().slot):
            raise AirflowBusyError("all connections to Airflow are in use")
        try:
            if self._pace:
                self._pace.wait(self._timeouts().slot)
            yield
        finally:
            self._slots.release()


@contextmanager
def _failures_translated() -> Iterator[None]:
    try:
        yield
    except requests.exceptions.InvalidJSONError as exc:
        raise AirflowRejectedError("the request has values that JSON cannot express") from exc
    except (requests.RequestException, HTTPError) as exc:
        # Only the type of the error: its text repeats the whole URL.
        message = f"no answer from Airflow: {type(exc).__name__}"
        raise AirflowUnavailableError(message, sent=not _never_connected(exc)) from exc


def _never_connected(exc: Exception) -> bool:
    """Return whether there was not even a connection, so that Airflow cannot have executed the request."""
    reason = getattr(exc.args[0], "reason", None) if exc.args else None
    return isinstance(exc, requests.ConnectTimeout) or isinstance(reason, NewConnectionError | ConnectTimeoutError)


def _cookies(response: requests.Response) -> dict[str, str]:
    """Return the cookies of an answer. The session of `requests` itself keeps none."""
    pairs = (line.split(";")[0].partition("=") for line in response.raw.headers.getlist("Set-Cookie"))
    return {name.strip(): value for name, _, value in pairs}


def _body(raw: Any, *, deadline: float, at_most: int | None = None) -> bytes:
    body = bytearray()
    for chunk in _chunks(raw, deadline=deadline):
        body += chunk
        if at_most is not None and len(body) > at_most:
            raise AirflowTooLargeError(f"Airflow's answer is larger than {at_most} bytes")
        if len(body) > MAX_BODY_BYTES:
            raise AirflowProtocolError(f"Airflow's answer is larger than {MAX_BODY_BYTES} bytes")
    return bytes(body)


def _chunks(raw: Any, *, deadline: float) -> Iterator[bytes]:
    # read1 returns what has arrived, so the deadline also stops a server that sends byte by byte.
    while chunk := raw.read1(CHUNK_BYTES, decode_content=True):
        yield chunk
        if time.monotonic() > deadline:
            raise AirflowUnavailableError("Airflow's answer did not end in time")


def lines_of(chunks: Iterator[bytes]) -> Iterator[RawLine]:
    """Yield the lines in these chunks, without their ends."""
    line = _GrowingLine()
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        line.add(first)
        if others:
            yield line.done()
            yield from (RawLine(whole, size=len(whole)) for whole in others[:-1])
            line = _GrowingLine()
            line.add(others[-1])
    if line.size:
        yield line.done()


class _GrowingLine:
    """A line whose end has not arrived. If it is too long, only its two ends are in memory."""

    def __init__(self) -> None:
        self.size = 0
        self._start, self._end = bytearray(), bytearray()

    def add(self, part: bytes) -> None:
        self.size += len(part)
        room = MAX_LINE_BYTES - len(self._start)
        self._start += part[:room]
        self._end += part[room:]
        del self._end[:-LINE_END_BYTES]

    def done(self) -> RawLine:
        if self.size <= MAX_LINE_BYTES + LINE_END_BYTES:
            return RawLine(bytes(self._start + self._end), size=self.size)
        return RawLine(bytes(self._start), end=bytes(self._end), size=self.size)


def _reason(detail: object) -> str:
    if isinstance(detail, str):
        # After the first paragraph of a validation error, jsonschema prints schema and value.
        return detail.split("\n\n")[0].strip()
    if isinstance(detail, list):
        return "; ".join(_violation(item) for item in detail)
    if isinstance(detail, dict):
        return _reason(detail.get("reason") or detail.get("message") or detail.get("msg"))
    return ""


def _violation(item: object) -> str:
    if not isinstance(item, dict):
        return str(item)
    place = ".".join(str(part) for part in item.get("loc", []) if part != "body")
    return f"{place}: {item.get('msg')}" if place else str(item.get("msg"))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
