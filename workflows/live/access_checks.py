"""Checks again whether readers may still read their streams, for many streams at a time.

A check alone takes two queries, and getting the database thread and a connection costs more than both. So checks that
are due at about the same time are made together.
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
from workflows.eventlog import audience
from workflows.eventlog.audience import Audience
from workflows.live.admission import CloseError, NotAllowedHereError, NotSignedInError, UnknownError, require_readable
from workflows.live.hub import StreamFilter

GATHERING = 0.05  # part of a heartbeat for which a check waits for others
AT_ONCE = 50  # checks that occupy the database thread together


class AccessChecks:
    """Collects checks. Everything here runs on one event loop."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Caller, StreamFilter, asyncio.Future[Caller | CloseError]]] = []
        self._runner: asyncio.Task[None] | None = None

    async def check(self, caller: Caller, url_filter: StreamFilter) -> Caller:
        """Return the caller with the rights of this moment. Raises the `CloseError` that ends the stream."""
        answer: asyncio.Future[Caller | CloseError] = asyncio.get_running_loop().create_future()
        self._waiting.append((caller, url_filter, answer))
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run(), name="access checks")
        result = await answer
        if isinstance(result, CloseError):
            raise result
        return result

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(GATHERING * settings.STREAM_HEARTBEAT)
            batch, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
            checks = [(caller, url_filter) for caller, url_filter, _ in batch]
            try:
                results: Sequence[Caller | CloseError | Exception] = await database_sync_to_async(_check_all)(checks)
            except Exception as exc:  # noqa: BLE001 - raised again where the answer is awaited
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


def _check_all(checks: Sequence[tuple[Caller, StreamFilter]]) -> list[Caller | CloseError]:
    """Return the result of each check, with one query for all sign-ins and two for all workflows."""
    callers = refreshed_all([caller for caller, _ in checks])
    audiences = audience.load({asked.workflow_id for _, asked in checks if asked.workflow_id is not None})
    return [_check(caller, asked, audiences) for caller, (_, asked) in zip(callers, checks, strict=True)]


def _check(caller: Caller | None, asked: StreamFilter, audiences: Mapping[int, Audience]) -> Caller | CloseError:
    if caller is None:
        return NotSignedInError("The session has ended.")
    # If the audience does not include the caller, the queryset decides.
    workflow_id = None if _is_in_audience(caller, asked, audiences) else asked.workflow_id
    try:
        require_readable(caller, user_id=asked.user_id, workflow_id=workflow_id, run_id=asked.run_id)
    except UnknownError:
        # The reader knew this workflow or run when the stream began. The answer does not say more than that.
        return NotAllowedHereError("What this stream shows no longer exists, or you can no longer see it.")
    except CloseError as exc:
        return exc
    return caller


def _is_in_audience(caller: Caller, asked: StreamFilter, audiences: Mapping[int, Audience]) -> bool:
    if asked.workflow_id is None or caller.user.bounds != UNBOUNDED:
        return False
    found = audiences.get(asked.workflow_id)
    return found is not None and found.includes(user_id=caller.user.pk, is_admin=caller.user.is_superuser)


_access_checks: WeakKeyDictionary[asyncio.AbstractEventLoop, AccessChecks] = WeakKeyDictionary()


def access_checks() -> AccessChecks:
    """Return those of this process. (Tests have one per event loop.)"""
    return _access_checks.setdefault(asyncio.get_running_loop(), AccessChecks())
