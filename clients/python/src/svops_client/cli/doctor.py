"""Tries what the client needs, one thing after the other, and says what is missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

import httpx

from svops_client._core.effects import Authorize, Connect, Op, Receive
from svops_client.client import Client
from svops_client.errors import SVOpsError

SKEW = 60.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Check:
    name: str
    good: bool
    detail: str


def examine(client: Client) -> Iterator[Check]:
    """Yield the result of each check; the first that fails is the last if the others need it."""
    reached = _tried("address", lambda: _reach(client))
    yield reached
    if not reached.good:
        return
    yield _tried("clock", lambda: _compare_clocks(client))
    signed_in = _tried("credentials", lambda: _sign_in(client))
    yield signed_in
    if signed_in.good:
        yield _tried("live stream", lambda: _open_stream(client))


def _tried(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name=name, good=True, detail=check())
    except (SVOpsError, httpx.HTTPError, RuntimeError) as exc:
        return Check(name=name, good=False, detail=str(exc))


def _reach(client: Client) -> str:
    answer = httpx.get(f"{client.base_url}/healthz", timeout=10)
    if answer.status_code != 200:
        raise RuntimeError(f"{client.base_url}/healthz answers {answer.status_code}: is this SVOps?")
    return f"{client.base_url} answers in {answer.elapsed.total_seconds() * 1000:.0f} ms"


def _compare_clocks(client: Client) -> str:
    given = httpx.get(f"{client.base_url}/healthz", timeout=10).headers.get("date")
    if not given:
        return "the platform does not say its time"
    apart = abs((datetime.now(timezone.utc) - parsedate_to_datetime(given)).total_seconds())
    if apart > SKEW:
        raise RuntimeError(f"The clocks are {apart:.0f} s apart: signatures of webhooks would be refused.")
    return f"less than {max(1, round(apart))} s apart"


def _sign_in(client: Client) -> str:
    who = client.me()
    return f"{who.username}, {who.role}, may {', '.join(who.scopes) or 'nothing'}"


def _open_stream(client: Client) -> str:
    began = time.monotonic()
    client._driver.run(_stream())
    return f"WebSocket ready in {(time.monotonic() - began) * 1000:.0f} ms"


def _stream() -> Op[None]:
    authorization = yield Authorize(None)
    yield Connect("/api/v1/ws", {"Authorization": authorization} if authorization else {}, 10)
    text = yield Receive(10)
    if text is None or "connection.ready" not in text:
        raise RuntimeError(f"The stream did not begin: {text}")
