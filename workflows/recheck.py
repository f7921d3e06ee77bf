"""Looks again whether readers may still read, many at a time.

One look on its own is two queries, and getting to the database thread and to a connection costs more than these. So
those that are due at about the same time go together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from django.conf import settings

from accounts.authentication import refreshed_all
from accounts.identity import Caller
from accounts.models import UNBOUNDED
from workflows import audience
from workflows.audience import Audience
from workflows.hub import Wanted
from workflows.stream_access import (
    CloseError,
    NotAllowedHereError,
    NotSignedInError,
    UnknownError,
    require_readable,
)

GATHERING = 0.05  # of a heartbeat that a look waits for others
AT_ONCE = 50  # looks for which the database thread is kept from others


class Rechecks:
    """Gathers looks; everything here runs on one event loop."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Caller, Wanted, asyncio.Future[Caller | CloseError]]] = []
        self._runner: asyncio.Task[None] | None = None

    async def look(self, caller: Caller, route: Wanted) -> Caller:
        """The caller with the rights of this moment; raises the `CloseError` that ends the stream."""
        answer: asyncio.Future[Caller | CloseError] = asyncio.get_running_loop().create_future()
        self._waiting.append((caller, route, answer))
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run(), name="rechecks")
        result = await answer
        if isinstance(result, CloseError):
            raise result
        return result

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(GATHERING * settings.STREAM_HEARTBEAT)
            batch, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
            looks = [(caller, route) for caller, route, _ in batch]
            try:
                results: Sequence[Caller | CloseError | Exception] = await database_sync_to_async(_look)(looks)
            except Exception as exc:  # noqa: BLE001 - raised again where it is waited for
                results = [exc] * len(batch)
            for (_, _, answer), result in zip(batch, results, strict=True):
                _settle(answer, result)


def _settle(answer: asyncio.Future[Caller | CloseError], result: Caller | CloseError | Exception) -> None:
    if answer.done():
        return
    if isinstance(result, Caller | CloseError):
        answer.set_result(result)
    else:
        answer.set_exception(result)


def _look(looks: Sequence[tuple[Caller, Wanted]]) -> list[Caller | CloseError]:
    """What each look finds, with one query for all sign-ins and two for the workflows of all routes."""
    callers = refreshed_all([caller for caller, _ in looks])
    audiences = audience.load({route.workflow_id for _, route in looks if route.workflow_id is not None})
    return [_look_at(caller, route, audiences) for caller, (_, route) in zip(callers, looks, strict=True)]


def _look_at(caller: Caller | None, route: Wanted, audiences: Mapping[int, Audience]) -> Caller | CloseError:
    if caller is None:
        return NotSignedInError("The session has ended.")
    # Where the audience does not say yes, the queryset has the last word.
    workflow_id = None if _is_in_audience(caller, route, audiences) else route.workflow_id
    try:
        require_readable(caller, user_id=route.user_id, workflow_id=workflow_id, run_id=route.run_id)
    except UnknownError:
        # What this stream reads was there for its reader when it began, and no more is said than that.
        return NotAllowedHereError("What this stream is of is there no longer, or you may not see it any more.")
    except CloseError as exc:
        return exc
    return caller


def _is_in_audience(caller: Caller, route: Wanted, audiences: Mapping[int, Audience]) -> bool:
    if route.workflow_id is None or caller.user.bounds != UNBOUNDED:
        return False
    seen_by = audiences.get(route.workflow_id)
    return seen_by is not None and seen_by.includes(user_id=caller.user.pk, is_admin=caller.user.is_superuser)


_rechecks: WeakKeyDictionary[asyncio.AbstractEventLoop, Rechecks] = WeakKeyDictionary()


def rechecks() -> Rechecks:
    """Those of this process. (One per event loop: tests have several.)"""
    return _rechecks.setdefault(asyncio.get_running_loop(), Rechecks())
