"""How a request says who it is from."""

import base64
import threading
from collections.abc import Mapping
from http import HTTPStatus
from typing import Protocol

from .errors import AirflowAuthError
from .http import Answer, Wire
from .reading import Record

Headers = Mapping[str, str]


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
        with self._lock:
            if self._headers is None:
                self._headers = {"Authorization": f"Bearer {self._new_token()}"}
            return self._headers

    def renewable(self, answer: Answer) -> bool:
        # 403 is also "your role may not do this"; its text tells a token signed with an older secret apart.
        stale = answer.status == HTTPStatus.FORBIDDEN and answer.reason == "Invalid JWT token"
        return stale or answer.status == HTTPStatus.UNAUTHORIZED

    def forget(self, headers: Headers) -> None:
        with self._lock:
            if self._headers is headers:
                self._headers = None

    def _new_token(self) -> str:
        answer = self._wire.exchange("POST", "/auth/token", json=self._credentials)
        if answer.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY):
            raise AirflowAuthError(answer.reason, status=answer.status)
        return Record(answer.checked().json(), "token").text("access_token")


class BasicLogin:
    """User name and password with every request."""

    def __init__(self, *, username: str, password: str) -> None:
        proof = base64.b64encode(f"{username}:{password}".encode()).decode("ascii")
        self._headers = {"Authorization": f"Basic {proof}"}

    def headers(self) -> Headers:
        return self._headers

    def renewable(self, answer: Answer) -> bool:
        return False

    def forget(self, headers: Headers) -> None:
        return None
