"""Django's sessions in the database, with an owner, a device, and a longest life.

`SESSION_ENGINE` names this module. A session ends after `SESSION_IDLE_SECONDS` without a request, and in any case
`SESSION_ABSOLUTE_SECONDS` after the sign-in.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone

from accounts.models import BrowserSession, User
from accounts.origin import origin_of

FACTS = "svops"  # the key of our facts in a session's data
SEEN_EVERY = timedelta(minutes=1)


class SessionStore(DatabaseStore):
    @classmethod
    def get_model_class(cls) -> type[BrowserSession]:
        return BrowserSession

    def create_model_instance(self, data: Mapping[str, Any]) -> BrowserSession:
        row: Any = super().create_model_instance(data)  # type: ignore[arg-type]
        return _with_facts(row, data)

    async def acreate_model_instance(self, data: dict[str, Any]) -> BrowserSession:
        row: Any = await super().acreate_model_instance(data)
        return _with_facts(row, data)


def _with_facts(row: BrowserSession, data: Mapping[str, Any]) -> BrowserSession:
    facts: Mapping[str, Any] = data.get(FACTS) or {}
    if not facts or SESSION_KEY not in data:
        return row
    row.user_id = int(data[SESSION_KEY])
    row.public_id = uuid.UUID(facts["id"])
    row.created_at = datetime.fromisoformat(facts["began"])
    row.seen_at = datetime.fromisoformat(facts["seen"])
    row.address, row.device = facts["address"], facts["device"]
    row.expire_date = min(row.expire_date, ends_at(row.created_at))
    return row


def ends_at(began: datetime) -> datetime:
    """Return when a sign-in of that time ends, however much it is used."""
    return began + timedelta(seconds=settings.SESSION_ABSOLUTE_SECONDS)


def began(user: User, request: HttpRequest, **signal: object) -> None:
    """Receive Django's signal of a sign-in: note who began the session, and where."""
    origin, now = origin_of(request), timezone.now().isoformat()
    request.session[FACTS] = {
        "id": str(uuid.uuid4()), "began": now, "seen": now, "address": origin.address, "device": origin.device,
    }  # fmt: skip


def touch(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: notes once a minute that a session is used, which also postpones its idle end."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if settings.SESSION_COOKIE_NAME in request.COOKIES:
            _touch(request)
        return get_response(request)

    return middleware


def _touch(request: HttpRequest) -> None:
    facts, now = request.session.get(FACTS), timezone.now()
    if facts and datetime.fromisoformat(facts["seen"]) + SEEN_EVERY <= now:
        request.session[FACTS] = facts | {"seen": now.isoformat(), "address": origin_of(request).address}
