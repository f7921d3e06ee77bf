"""An authenticated way to one Airflow whose version is found out on first use."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from .adapter import Adapter
from .errors import AirflowUnavailableError
from .http import Answer, Params, Timeout, Wire
from .login import Login
from .reading import Record
from .v1 import V1
from .v2 import V2

# Airflow cuts a larger `limit` of a GET silently; the bodies of POST …/list are not capped.
PAGE_SIZE = 100
BATCH_SIZE = 1000


@dataclass(frozen=True)
class Detected:
    adapter: Adapter
    login: Login


class Connection:
    def __init__(self, base_url: str, *, username: str, password: str, timeout: Timeout, pool_size: int) -> None:
        self._wire = Wire(base_url, timeout=timeout, pool_size=pool_size)
        self._username = username
        self._password = password
        self._lock = threading.Lock()
        self._detected: Detected | None = None

    @property
    def adapter(self) -> Adapter:
        return self._known().adapter

    def within(self, seconds: float) -> AbstractContextManager[None]:
        return self._wire.within(seconds)

    def get(self, path: str, params: Params | None = None) -> Any:
        return self.call("GET", path, params=params)

    def call(self, method: str, path: str, *, params: Params | None = None, json: object = None) -> Any:
        """Ask as ourselves and return the JSON of a success (None if it is empty); else an `AirflowError`.

        A request whose proof of identity was refused is repeated once with a new one; nothing else is.
        """
        known = self._known()
        headers = known.login.headers()
        answer = self._send(known, method, path, params, json, headers)
        if known.login.renewable(answer):
            known.login.forget(headers)
            answer = self._send(known, method, path, params, json, known.login.headers())
        self._notice_another_version(answer)
        answer.checked()
        return answer.json() if answer.body else None

    @contextmanager
    def lines(self, path: str, params: Params | None = None, *, accept: str) -> Iterator[Iterator[bytes]]:
        """GET something of any length as the lines of a success; else an `AirflowError`."""
        known = self._known()
        url = f"{known.adapter.prefix}{path}"
        headers = known.login.headers()
        with self._wire.lines(url, params=params, headers={**headers, "Accept": accept}) as (answer, lines):
            if not known.login.renewable(answer):
                self._notice_another_version(answer)
                answer.checked()
                yield lines
                return
        known.login.forget(headers)
        headers = {**known.login.headers(), "Accept": accept}
        with self._wire.lines(url, params=params, headers=headers) as (answer, lines):
            answer.checked()
            yield lines

    def open(self, path: str) -> Any:
        """GET what needs no credentials, so that it works with wrong ones too."""
        return self._send(self._known(), "GET", path, None, None, {}).checked().json()

    def touch(self, path: str) -> None:
        """GET a path outside of the API; what is answered does not matter."""
        self._wire.exchange("GET", path)

    def pages(self, path: str, key: str, params: Params) -> Iterator[Any]:
        def fetch(offset: int) -> Any:
            return self.get(path, {"limit": PAGE_SIZE, **params, "offset": offset})

        return _pages(fetch, key)

    def batch(self, path: str, key: str, body: Mapping[str, Any]) -> Iterator[Any]:
        def fetch(offset: int) -> Any:
            return self.call("POST", path, json={**body, "page_limit": BATCH_SIZE, "page_offset": offset})

        return _pages(fetch, key)

    def close(self) -> None:
        self._wire.close()

    def _send(
        self,
        known: Detected,
        method: str,
        path: str,
        params: Params | None,
        json: object,
        headers: Mapping[str, str],
    ) -> Answer:
        url = f"{known.adapter.prefix}{path}"
        return self._wire.exchange(method, url, params=params, json=json, headers=headers)

    def _known(self) -> Detected:
        with self._wire.turn(self._lock):
            if self._detected is None:
                adapter = self._detect()
                login = adapter.login(self._wire, username=self._username, password=self._password)
                self._detected = Detected(adapter, login)
            return self._detected

    def _detect(self) -> Adapter:
        candidates: tuple[Adapter, ...] = (V2(), V1())
        for adapter in candidates:
            answer = self._wire.exchange("GET", f"{adapter.prefix}/version")
            if answer.status == HTTPStatus.NOT_FOUND:
                continue
            Record(answer.checked().json(), "version").text("version")
            return adapter
        raise AirflowUnavailableError("neither /api/v2 nor /api/v1 of Airflow answers at this address")

    def _notice_another_version(self, answer: Answer) -> None:
        # An Airflow upgraded under us answers so to its former API. Not to be taken for "no such run".
        if answer.status == HTTPStatus.NOT_FOUND and answer.problem is None:
            with self._wire.turn(self._lock):
                self._detected = None


def _pages(fetch: Callable[[int], Any], key: str) -> Iterator[Any]:
    """The rows of all pages. A row that moves meanwhile may come twice."""
    offset = 0
    while True:
        page = Record(fetch(offset), key)
        rows = page.items(key)
        yield from rows
        offset += len(rows)
        if not rows or offset >= page.integer("total_entries"):
            return
