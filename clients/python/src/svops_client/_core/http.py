"""One request with its repeats, and lists page by page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from svops_client._core import backoff
from svops_client._core.effects import Authorize, Emit, Op, Request, Response, Wait
from svops_client.errors import BY_STATUS, ApiError, TransportError

if TYPE_CHECKING:
    from collections.abc import Callable

    from svops_client._core.platform import Platform

Query = Mapping[str, Any]
# So many new tokens in a row may be refused: a short-lived one can end on its way.
RENEWALS = 3
LONGEST_PAUSE = 4.0  # seconds between two tries of a request: somebody waits for it
PASSING = frozenset({429, 502, 503, 504})


def call(
    platform: Platform,
    method: str,
    path: str,
    *,
    query: Query | None = None,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    may_repeat: bool | None = None,
) -> Op[Response]:
    """Send a request as the client's user and return the answer. Raises an `ApiError` or a `TransportError`.

    It is tried again for `retry_for` seconds. `may_repeat` says that it may arrive twice; by default, only reads may.
    Other requests are tried again only if they certainly changed nothing.
    """
    request = Request(method, path, pairs(query or {}), body, dict(headers or {}))
    repeats = _Repeats(platform, method in {"GET", "DELETE"} if may_repeat is None else may_repeat)
    refused: str | None = None
    renewals = RENEWALS if platform.credentials.renewable else 0
    while True:
        authorization = yield Authorize(refused)
        try:
            return (yield from once(request, authorization))
        except ApiError as exc:
            if exc.status == 401 and renewals:
                refused, renewals = authorization, renewals - 1
                continue
            yield Wait(repeats.pause_after(exc))
        except TransportError as exc:
            yield Wait(repeats.pause_after(exc))


def exchange(platform: Platform, path: str, body: Any, *, may_repeat: bool) -> Op[Response]:
    """Send a request without credentials, such as a sign-in, with the same repeats."""
    repeats = _Repeats(platform, may_repeat)
    while True:
        try:
            return (yield from once(Request("POST", path, body=body), None))
        except (ApiError, TransportError) as exc:
            yield Wait(repeats.pause_after(exc))


def once(request: Request, authorization: str | None) -> Op[Response]:
    """Send a request and return its answer; raise the `ApiError` that it is."""
    known = {"Authorization": authorization} if authorization else {}
    response: Response = yield Request(
        request.method, request.path, request.query, request.body, {**request.headers, **known}
    )
    if response.status >= 300:
        raise error_of(response)
    return response


class _Repeats:
    """Decides whether a failed request is sent again, and when."""

    def __init__(self, platform: Platform, may_arrive_twice: bool) -> None:
        self._platform = platform
        self._may_arrive_twice = may_arrive_twice
        self._tries = 0
        self._ends_at = platform.now() + platform.retry_for

    def pause_after(self, exc: ApiError | TransportError) -> float:
        """Return the seconds to wait before the next try; raise the error again if there is none."""
        if not self._is_passing(exc):
            raise exc
        asked = exc.retry_after if isinstance(exc, ApiError) else None
        pause = backoff.pause(self._tries, chance=self._platform.chance(), longest=LONGEST_PAUSE, at_least=asked)
        if self._platform.now() + pause > self._ends_at:
            raise exc
        self._tries += 1
        return pause

    def _is_passing(self, exc: ApiError | TransportError) -> bool:
        if isinstance(exc, TransportError):
            return self._may_arrive_twice or not exc.was_sent
        # The platform answers these two before it does anything, and a 503 with this header too.
        was_refused = exc.status == 429 or (exc.status == 503 and exc.retry_after is not None)
        return was_refused or (self._may_arrive_twice and exc.status in PASSING)


def error_of(response: Response) -> ApiError:
    """Return the error that an answer is; of a proxy, it is not ours."""
    body = response.json if isinstance(response.json, dict) else {}
    status = response.status
    kind = BY_STATUS.get(status, ApiError)
    return kind(
        str(body.get("detail") or f"The answer was {status}."),
        status=status,
        code=str(body.get("code") or "http_error"),
        errors=body.get("errors"),
        request_id=body.get("request_id"),
        retry_after=retry_after(response.headers),
        body=body,
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of `Retry-After`, which may also be a date."""
    given = headers.get("retry-after", "")
    with suppress(ValueError):
        return max(0.0, float(given))
    with suppress(ValueError, TypeError):
        sent = parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, (parsedate_to_datetime(given) - sent).total_seconds())
    return None


def pairs(query: Query) -> tuple[tuple[str, str], ...]:
    """Return the query as pairs. What is None is left out; a list is given several times."""
    return tuple((name, text(one)) for name, value in query.items() if value is not None for one in _several(value))


def _several(value: Any) -> Iterable[Any]:
    return value if isinstance(value, (list, tuple, set, frozenset)) else [value]


def text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def pages(platform: Platform, path: str, query: Query, make: Callable[[Any], Any]) -> Op[None]:
    """Emit the items of a list, page by page; the next page is asked for when it is needed."""
    asked: tuple[tuple[str, str], ...] | None = pairs(query)
    while asked is not None:
        page = (yield from call(platform, "GET", path, query=_merged(asked))).json
        for item in page["results"] if isinstance(page, dict) else page:
            yield Emit(make(item))
        following = page.get("next") if isinstance(page, dict) else None
        # Only the query of the link: its host is what the platform thinks it is, and must not get our credentials.
        asked = tuple(parse_qsl(urlsplit(following).query, keep_blank_values=True)) if following else None


def _merged(given: tuple[tuple[str, str], ...]) -> Query:
    merged: dict[str, list[str]] = {}
    for name, value in given:
        merged.setdefault(name, []).append(value)
    return merged
