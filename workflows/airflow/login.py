"""How a request is authenticated."""

import base64
import os
import re
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from .access import Password, StaticToken
from .credentials import Credentials, Keeper
from .errors import AirflowAuthError, AirflowUnavailableError
from .http import Answer, Wire
from .reading import Record
from .ways.tokens import bearer

Headers = Mapping[str, str]

CSRF_TOKEN = re.compile(rb'name="csrf_token"[^>]* value="([\w.-]+)"')


class Login(Protocol):
    def headers(self) -> Headers:
        """Return the headers of a request. May log in first."""

    def renewable(self, answer: Answer) -> bool:
        """Return whether this answer refuses our credentials and newer ones may work."""

    def forget(self, headers: Headers) -> None:
        """Drop the credentials in `headers`. Newer ones of another thread are kept."""


class NoLogin:
    """Nothing is proved. With a password, the version and the health are asked for like this."""

    def headers(self) -> Headers:
        return {}

    def renewable(self, answer: Answer) -> bool:
        return False

    def forget(self, headers: Headers) -> None:
        """There is nothing to forget."""


class KeptLogin:
    """Credentials of a provider, which all clients of this process share."""

    # Seconds for which a refusal that may mean something else is believed to mean something else.
    YOUNG = 60.0

    def __init__(self, wire: Wire, keeper: Keeper) -> None:
        self._wire = wire
        self._keeper = keeper

    def headers(self) -> Headers:
        return self._keeper.get(wait=self._wire.patience).headers

    def renewable(self, answer: Answer) -> bool:
        return _is_stale(answer) or (_may_be_stale(answer) and self._keeper.age() > self.YOUNG)

    def forget(self, headers: Headers) -> None:
        self._keeper.refuse(headers)


class StaticLogin:
    """A token that somebody else changes: in a file, which is read again when it changes and when it is refused."""

    def __init__(self, way: StaticToken) -> None:
        self._way = way
        self._lock = threading.Lock()
        self._token = way.value
        self._seen: object = None

    def headers(self) -> Headers:
        with self._lock:
            if self._way.file:
                self._look()
            return {"Authorization": f"Bearer {self._token}"}

    def renewable(self, answer: Answer) -> bool:
        return bool(self._way.file) and (_is_stale(answer) or _may_be_stale(answer))

    def forget(self, headers: Headers) -> None:
        with self._lock:
            self._seen = None

    def _look(self) -> None:
        """Read the file if it has changed. While it is missing or empty, as in a rotation, the last token counts."""
        try:
            now = os.stat(self._way.file)
            seen = (now.st_ino, now.st_size, now.st_mtime_ns)
            if seen == self._seen:
                return
            token = Path(self._way.file).read_text().strip()
        except (OSError, UnicodeDecodeError):
            token = ""
        else:
            self._seen = seen
        if token and token.isascii() and token.isprintable():
            self._token = token
        elif not self._token:
            raise AirflowUnavailableError("the file of AIRFLOW_TOKEN_FILE holds no token", sent=False)


class TokenLogin:
    """A JWT of `/auth/token`, requested when it is first needed, before it ends, and when Airflow refuses it."""

    def __init__(self, wire: Wire, way: Password) -> None:
        self._wire = wire
        self._credentials = {"username": way.username, "password": way.password}
        self._lock = threading.Lock()
        self._current: Credentials | None = None

    def headers(self) -> Headers:
        with self._wire.turn(self._lock):
            now, current = time.time(), self._current
            if current is None or current.has_expired(now):
                current = bearer(self._new_token(), now=now)
            elif current.is_due(now):
                with suppress(AirflowUnavailableError):
                    current = bearer(self._new_token(), now=now)
            self._current = current
            return current.headers

    def renewable(self, answer: Answer) -> bool:
        return _is_stale(answer)

    def forget(self, headers: Headers) -> None:
        with self._wire.turn(self._lock):
            if self._current is not None and self._current.headers is headers:
                self._current = None

    def _new_token(self) -> str:
        answer = self._wire.exchange("POST", "/auth/token", json=self._credentials)
        if answer.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY):
            raise AirflowAuthError(answer.reason, status=answer.status)
        return Record(answer.checked().json(), "token").text("access_token")


class SessionLogin:
    """The session of a user who is signed in to the web pages of 2.11, or else user name and password.

    Airflow checks a password by scrypt at each request, which takes some 130 ms. A session takes a tenth of that.
    If there is no such form, or no session is allowed, the only cost is one request a minute.
    """

    RETRY_AFTER = 60.0  # seconds; Airflow allows five tries in forty

    def __init__(self, wire: Wire, way: Password) -> None:
        self._wire = wire
        self._credentials = {"username": way.username, "password": way.password}
        proof = base64.b64encode(f"{way.username}:{way.password}".encode()).decode("ascii")
        self._basic: Headers = {"Authorization": f"Basic {proof}"}
        self._lock = threading.Lock()
        self._session: Headers | None = None
        self._not_before = 0.0

    def headers(self) -> Headers:
        with self._wire.turn(self._lock):
            if self._session is None and time.monotonic() >= self._not_before:
                self._session = self._sign_in()
                self._not_before = time.monotonic() + self.RETRY_AFTER
            return self._session or self._basic

    def renewable(self, answer: Answer) -> bool:
        # Airflow answers the same for an ended session and for a role that is not allowed. Name and password decide:
        # they are sent next, because no new session is opened so soon.
        refused = answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        return refused and self._session is not None

    def forget(self, headers: Headers) -> None:
        with self._wire.turn(self._lock):
            if self._session is headers:
                self._session = None
                self._not_before = time.monotonic() + self.RETRY_AFTER

    def _sign_in(self) -> Headers | None:
        form = self._wire.exchange("GET", "/login/", headers={"Accept": "text/html"})
        token = CSRF_TOKEN.search(form.body)
        if form.status != HTTPStatus.OK or token is None:
            return None
        answer = self._wire.exchange(
            "POST",
            "/login/",
            form={**self._credentials, "csrf_token": token[1].decode("ascii")},
            headers={"Cookie": _cookie(form)},
        )
        if answer.status != HTTPStatus.FOUND or "/login" in answer.location or "session" not in answer.cookies:
            return None
        return {"Cookie": _cookie(answer)}


def _is_stale(answer: Answer) -> bool:
    # 403 also means "your role may not do this". Its text shows a token that is signed with an older secret.
    is_old = answer.status == HTTPStatus.FORBIDDEN and answer.reason == "Invalid JWT token"
    return is_old or answer.status == HTTPStatus.UNAUTHORIZED


def _may_be_stale(answer: Answer) -> bool:
    """Return whether something in front of Airflow may have refused our credentials, in its own words."""
    if answer.status == HTTPStatus.FORBIDDEN:
        return answer.problem is None
    return answer.status in (HTTPStatus.FOUND, HTTPStatus.SEE_OTHER)


def _cookie(answer: Answer) -> str:
    return "; ".join(f"{name}={value}" for name, value in answer.cookies.items())
