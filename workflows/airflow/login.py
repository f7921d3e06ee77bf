"""How a request says who it is from."""

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
        """The headers to send with a request; may log in first."""

    def renewable(self, answer: Answer) -> bool:
        """Whether this answer refuses our proof of identity and a newer one may do."""

    def forget(self, headers: Headers) -> None:
        """Stop using the proof in `headers`; one that another thread has got since is kept."""


class TokenLogin:
    """A JWT of `/auth/token`, got when it is first needed and again when Airflow no longer takes it."""

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
        # 403 is also "your role may not do this"; its text tells a token signed with an older secret apart.
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
    """The session of a user who has signed in to the web pages of 2.11, else user name and password.

    The latter are checked by scrypt at each request, for some 130 ms; a session takes a tenth of that. Where there
    is no such form, or no session may be used, nothing is lost but one request a minute.
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
        # A session that has ended and a role that may not do this are answered alike. Name and password tell: they
        # are what is sent next, since no new session is begun so soon.
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
