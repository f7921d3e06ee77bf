"""Who asks: an API key, a token, a ticket, or a sign-in that is renewed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from svops_client._core.effects import Ask, Op
from svops_client._core.http import exchange
from svops_client.errors import ApiError, TransportError

if TYPE_CHECKING:
    from svops_client._core.platform import Platform

Source = str | Callable[[], "str | Awaitable[str]"]
# A token is renewed when this part of its life is over.
RENEW_AT = 0.8


class Credentials(ABC):
    """`renewable`: after a refusal there may be others. `is_ticket`: they are for one run."""

    renewable = True
    is_ticket = False

    @abstractmethod
    def authorize(self, platform: Platform, refused: str | None) -> Op[str | None]:
        """Return the header `Authorization`, and another one than `refused` if there is one."""


class Nobody(Credentials):
    renewable = False

    def authorize(self, platform: Platform, refused: str | None) -> Op[str | None]:
        return None
        yield  # a generator


class Given(Credentials):
    """A text, or a function that returns one and is called again when the one before is refused."""

    def __init__(self, source: Source, *, scheme: str = "Bearer") -> None:
        self.renewable = callable(source)
        self.is_ticket = scheme == "Ticket"
        self._source = source
        self._scheme = scheme
        self._header: str | None = None

    def authorize(self, platform: Platform, refused: str | None) -> Op[str | None]:
        if self._header is None or self._header == refused:
            text = (yield Ask(self._source)) if callable(self._source) else self._source
            self._header = f"{self._scheme} {text}"
        return self._header


class SignIn(Credentials):
    """Name and password. The refresh token renews the sign-in, and the password begins a new one."""

    def __init__(self, username: str, password: str, *, code: str = "") -> None:
        self._body = {"username": username, "password": password} | ({"code": code} if code else {})
        self._access = ""
        self._refresh = ""
        self._renew_at = 0.0

    def authorize(self, platform: Platform, refused: str | None) -> Op[str | None]:
        is_good = self._access and f"Bearer {self._access}" != refused
        if not is_good or platform.now() >= self._renew_at:
            yield from self._renew(platform)
        return f"Bearer {self._access}"

    def _renew(self, platform: Platform) -> Op[None]:
        refresh, self._refresh = self._refresh, ""
        if refresh:
            try:
                # Not repeated: a refresh token that arrives twice ends the whole sign-in.
                yield from self._take(platform, "/api/v1/auth/refresh", {"refresh_token": refresh}, may_repeat=False)
            except (ApiError, TransportError):
                # It has ended, or its answer is lost: the password does.
                pass
            else:
                return
        yield from self._take(platform, "/api/v1/auth/login", self._body, may_repeat=True)

    def _take(self, platform: Platform, path: str, body: dict[str, str], *, may_repeat: bool) -> Op[None]:
        tokens = (yield from exchange(platform, path, body, may_repeat=may_repeat)).json
        self._access, self._refresh = tokens["access_token"], tokens["refresh_token"]
        self._renew_at = platform.now() + RENEW_AT * tokens["expires_in"]
