"""An authenticated connection to one Airflow. Its version is read on first use."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from workflows.deeds import deed_of

from .access import Access, Mwaa, Password, StaticToken, is_invoked
from .adapter import Adapter
from .credentials import Keeper
from .errors import AirflowForbiddenError, AirflowUnavailableError
from .http import Answer, Params, RawLine, Timeout, Wire
from .invoked import InvokedWire
from .login import Headers, KeptLogin, Login, NoLogin, StaticLogin
from .pace import Pace
from .reading import Record
from .v1 import V1
from .v2 import V2
from .ways import keep

# Airflow silently reduces a larger `limit` of a GET.
PAGE_SIZE = 100
# Whoever may do anything may read this.
DAGS = "/dags"
# How often a feed goes back because rows have left it. Airflow may change faster than it can be read.
MOST_STEPS_BACK = 20


@dataclass(frozen=True)
class Detected:
    adapter: Adapter
    login: Login


class Connection:
    def __init__(
        self, access: Access, *, keeper: Keeper | None, timeout: Timeout, pool_size: int, pace: Pace | None
    ) -> None:
        self._wire = _wire(access, timeout=timeout, pool_size=pool_size, pace=pace)
        self._way = access.way
        self._door = _door(access, self._wire, keeper)
        self._lock = threading.Lock()
        self._detected: Detected | None = None

    @property
    def adapter(self) -> Adapter:
        return self._known().adapter

    @property
    def is_invoked(self) -> bool:
        """Return whether it is an Airflow of Amazon MWAA whose pages are not reached."""
        return is_invoked(self._way)

    def version(self) -> str:
        """Ask Airflow for its version. Another one than before means that Airflow was upgraded."""
        known = self._known()
        answer = self._knock(f"{known.adapter.prefix}/version")
        self._notice_another_version(answer)
        version = Record(answer.checked().json(), "version").text("version")
        if version != known.adapter.version:
            self._forget()
        return version

    def date(self) -> str:
        """Return the header `Date` of an answer: Airflow's clock in whole seconds, or "" if it has none."""
        return self._knock(f"{self._known().adapter.prefix}/version").date

    def within(self, seconds: float) -> AbstractContextManager[None]:
        return self._wire.within(seconds)

    def get(self, path: str, params: Params | None = None, *, at_most: int | None = None) -> Any:
        return self.call("GET", path, params=params, at_most=at_most)

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        json: object = None,
        at_most: int | None = None,
    ) -> Any:
        """Send an authenticated request. Return the JSON of a success (None if it is empty), else raise `AirflowError`.

        A request with refused credentials is repeated once with new ones. Nothing else is repeated.
        """
        known = self._known()
        url = f"{known.adapter.prefix}{path}"

        def send(headers: Headers) -> Answer:
            return self._wire.exchange(method, url, params=params, json=json, headers=headers, at_most=at_most)

        answer = _authorized(known.login, send)
        self._notice_another_version(answer)
        self._check(known, method, path, answer)
        return answer.json() if answer.body else None

    def get_outside(self, path: str, params: Params) -> Any:
        """GET an authenticated answer from a path outside of the API. Return None if it is not there for us."""
        answer = self._outside(path, params)
        if HTTPStatus.BAD_REQUEST <= answer.status <= HTTPStatus.INTERNAL_SERVER_ERROR:
            return None
        return answer.checked().json()

    def ask_outside(self, path: str, params: Params) -> Any:
        """GET the same, but raise the error that the answer means."""
        answer = self._outside(path, params)
        self._check(self._known(), "GET", path, answer)
        return answer.json()

    def _outside(self, path: str, params: Params) -> Answer:
        return _authorized(
            self._known().login, lambda headers: self._wire.exchange("GET", path, params=params, headers=headers)
        )

    @contextmanager
    def lines(self, path: str, params: Params | None = None, *, accept: str) -> Iterator[Iterator[RawLine]]:
        """GET an answer of any length as lines. Raise `AirflowError` if it is no success."""
        known = self._known()
        url = f"{known.adapter.prefix}{path}"
        headers = known.login.headers()
        with self._wire.lines(url, params=params, headers={**headers, "Accept": accept}) as (answer, lines):
            if answer.is_success:
                yield lines
                return
        if known.login.renewable(answer):
            known.login.forget(headers)
            headers = {**known.login.headers(), "Accept": accept}
            with self._wire.lines(url, params=params, headers=headers) as (answer, lines):
                if answer.is_success:
                    yield lines
                    return
        # With no connection in hand: it may ask Airflow once more.
        self._notice_another_version(answer)
        self._check(known, "GET", path, answer)

    def open(self, path: str) -> Any:
        """GET what Airflow shows to everybody. With a password, it works with a wrong one too."""
        return self._knock(f"{self._known().adapter.prefix}{path}").checked().json()

    def pages(self, path: str, key: str, params: Params) -> Iterator[Any]:
        def fetch(offset: int) -> Any:
            return self.get(path, {"limit": PAGE_SIZE, **params, "offset": offset})

        return _pages(fetch, key)

    def feed(self, path: str, key: str, params: Params) -> Iterator[Any]:
        """Yield the rows of a list that others enter at its front, and leave anywhere, while it is read.

        Each page begins with rows of the page before it, so rows that have moved forward meanwhile are not missed.
        """

        def fetch(offset: int) -> Any:
            return self.get(path, {"limit": PAGE_SIZE, **params, "offset": offset})

        return _linked_pages(fetch, key)

    def batch(self, path: str, key: str, body: Mapping[str, Any]) -> Iterator[Any]:
        def fetch(offset: int) -> Any:
            return self.call("POST", path, json={**body, "page_limit": self._wire.batch_size, "page_offset": offset})

        return _pages(fetch, key)

    def close(self) -> None:
        self._wire.close()

    def _knock(self, path: str) -> Answer:
        return _authorized(self._door, lambda headers: self._wire.exchange("GET", path, headers=headers))

    def _check(self, known: Detected, method: str, path: str, answer: Answer) -> None:
        """Raise the error that the answer means. A 403 may be about the credentials, or about a right."""
        # In Airflow's own words: a proxy says nothing about a right.
        is_refusal = answer.status == HTTPStatus.FORBIDDEN and answer.problem is not None
        if is_refusal and path != DAGS and self._may_read_dags(known):
            raise AirflowForbiddenError(f"{method} {path}", about=deed_of(method, path), reason=answer.reason)
        answer.checked()

    def _may_read_dags(self, known: Detected) -> bool:
        """Return whether Airflow accepts our credentials. 2.11 answers 403 to wrong ones too."""
        answer = self._wire.exchange(
            "GET", f"{known.adapter.prefix}{DAGS}", params={"limit": 1}, headers=known.login.headers()
        )
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            answer.checked()
        return answer.status == HTTPStatus.OK

    def _known(self) -> Detected:
        with self._wire.turn(self._lock):
            if self._detected is None:
                adapter = self._detect()
                login = adapter.login(self._wire, self._way) if isinstance(self._way, Password) else self._door
                self._detected = Detected(adapter, login)
            return self._detected

    def _detect(self) -> Adapter:
        candidates: tuple[type[V2] | type[V1], ...] = (V2, V1)
        for kind in candidates:
            answer = self._knock(f"{kind.prefix}/version")
            if answer.status != HTTPStatus.NOT_FOUND:
                return kind(Record(answer.checked().json(), "version").text("version"))
        raise AirflowUnavailableError("neither /api/v2 nor /api/v1 of Airflow answers at this address")

    def _notice_another_version(self, answer: Answer) -> None:
        # An upgraded Airflow answers this on the API of its former version. It does not mean "no such run".
        if answer.status == HTTPStatus.NOT_FOUND and answer.problem is None:
            self._forget()

    def _forget(self) -> None:
        with self._wire.turn(self._lock):
            self._detected = None


def _wire(access: Access, *, timeout: Timeout, pool_size: int, pace: Pace | None) -> Wire:
    if isinstance(access.way, Mwaa) and is_invoked(access.way):
        return InvokedWire(access, access.way, timeout=timeout, pool_size=pool_size, pace=pace)
    return Wire(access, timeout=timeout, pool_size=pool_size, pace=pace)


def _door(access: Access, wire: Wire, keeper: Keeper | None) -> Login:
    """Return what is shown before the version is known. Airflow itself asks for nothing, but what is in front may."""
    if isinstance(access.way, Password) or is_invoked(access.way):
        return NoLogin()
    if isinstance(access.way, StaticToken):
        return StaticLogin(access.way)
    return KeptLogin(wire, keeper or keep(access))


def _authorized(login: Login, send: Callable[[Headers], Answer]) -> Answer:
    """Send a request. If it is refused and there are other credentials by now, send it once more with these."""
    headers = login.headers()
    answer = send(headers)
    if not login.renewable(answer):
        return answer
    login.forget(headers)
    others = login.headers()
    return answer if others == headers else send(others)


def _pages(fetch: Callable[[int], Any], key: str) -> Iterator[Any]:
    """Yield the rows of all pages. A row that moves meanwhile may come twice."""
    offset = 0
    while True:
        page = Record(fetch(offset), key)
        rows = page.items(key)
        yield from rows
        offset += len(rows)
        if not rows or offset >= page.integer("total_entries"):
            return


def _linked_pages(fetch: Callable[[int], Any], key: str) -> Iterator[Any]:
    seen: set[tuple[Any, ...]] = set()
    offset, steps_back = 0, 0
    while True:
        page = Record(fetch(offset), key)
        rows = page.items(key)
        names = [_name(row) for row in rows]
        if offset and seen.isdisjoint(names[:1]) and steps_back < MOST_STEPS_BACK:
            offset, steps_back = max(0, offset - PAGE_SIZE), steps_back + 1
            continue
        yield from rows
        seen.update(names)
        if not rows or offset + len(rows) >= page.integer("total_entries"):
            return
        offset += max(1, len(rows) - max(1, len(rows) // 10))


def _name(row: object) -> tuple[Any, ...]:
    """Return what stays the same of a run or a task instance while it changes."""
    fields = Record(row, "row").fields
    return tuple(fields.get(name) for name in ("dag_id", "dag_run_id", "task_id", "map_index", "id"))
