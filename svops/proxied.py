"""Takes away the headers with which a peer that is no proxy of ours says for whom it asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]

FORWARDED = (b"x-forwarded-for", b"x-forwarded-proto")


class Proxied:
    """Wraps the whole application, so that nothing inside reads what `TRUST_PROXY` does not let through."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        peer = scope.get("client") or ("", 0)
        if "headers" in scope and not settings.TRUST_PROXY.believe(str(peer[0])):
            # In place: whoever frees the headers later frees this one list.
            scope["headers"][:] = [(name, value) for name, value in scope["headers"] if name not in FORWARDED]
        await self._application(scope, receive, send)
