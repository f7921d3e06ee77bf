"""How a request is authenticated."""

import base64
import re
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Protocol

from .errors import AirflowAuthError
from .http import Answer, Wire
from .reading import Record

Headers = Mapping[str, str]

CSRF_TOKEN = re.compile(rb'name="csrf_token"[^>]* value="([\w.-]+)"')


class Login(Protocol):
    def headers(self) -> Headers:
        """Return the headers of a request. May log in first."""

    def renewable(self, answer: Answer) -> bool:
        """Return whether this answer refuses our credentials and newer ones may work."""

    def forget(self, headers: Headers) -> None:
        """Drop the credentials in `headers`. Newer ones of another thread are kept."""


class TokenLogin:
    """A JWT of `/auth/token`, requested when it is first needed and again when Airflow no longer accepts it."""

    def __init__(self, wire: Wire, *, username: str, password: str) -> None:
        self._wire = wire
        self._credentials = {"username": username, "password": password}
        self._lock = threading.Lock()
        self._headers: Headers | None = None

    def headers(self) -> Headers:
        with self._wire.turn(self._lock):
            if self._headers is None:
                self._headers = {"Authorization": f"Bearer {self._new_token()}"}
            return self._headers

    def renewable(self, answer: Answer) -> bool:
        # 403 also means "your role may not do this". Its text shows a token that is signed with an older secret.
        stale = answer.status == HTTPStatus.FORBIDDEN and answer.reason == "Invalid JWT token"
        return stale or answer.status == HTTPStatus.UNAUTHORIZED

    def forget(self, headers: Headers) -> None:
        with self._wire.turn(self._lock):
            if self._headers is headers:
                self._headers = None

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

    def __init__(self, wire: Wire, *, username: str, password: str) -> None:
        self._wire = wire
        self._credentials = {"username": username, "password": password}
        proof = base64.b64encode(f"{username}:{password}".encode()).decode("ascii")
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


def _cookie(answer: Answer) -> str:
    return "; ".join(f"{name}={value}" for name, value in answer.cookies.items())
