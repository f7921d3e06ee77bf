"""A log as server-sent events, from its first line until it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from typing import ClassVar, Protocol
from uuid import UUID
from weakref import WeakSet

from channels.db import database_sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils import timezone

from accounts.authentication import refreshed
from accounts.identity import Caller, Scope, TicketAction
from rest import sse
from rest.error_responses import response_to
from rest.errors import BusyError, SVOpsError, TooManyOfYoursError
from rest.query import check_query
from rest.views import reads_only
from workflows import task_logs
from workflows.api.event_views import caller_of
from workflows.api.log_views import PARAMETERS, parse, visible_run
from workflows.live import admission
from workflows.live.admission import NotAllowedHereError, NotSignedInError
from workflows.live.stream import encode
from workflows.models import Run
from workflows.task_logs import LARGEST_PAGE, LogPage, LogQuery, Preparing

PAUSE = 1.0  # seconds between two looks at the copy of the log, which all followers share
PREPARING_EVERY = 5.0  # seconds between two `preparing`
# The id of `end` is its cursor and this, so that it differs from the id of the last lines.
ENDED = ".ended"


@reads_only
async def log_stream(request: HttpRequest, workflow_pk: int, pk: UUID, task_id: str) -> HttpResponseBase:
    """`GET …/logs/stream`: the log as server-sent events, resumed by `Last-Event-ID` or `?cursor=`."""
    last_event_id = request.headers.get("Last-Event-ID", "")
    try:
        check_query(request.GET, PARAMETERS | {"ticket"})
        query = parse(request.GET, task_id, last_event_id=last_event_id.removesuffix(ENDED))
        if query.cursor and last_event_id:
            # The reader has the tail that its URL asks for, and needs every line after it.
            query = replace(query, tail=None)
        caller = await caller_of(request)
        await admission.admit(caller)
        follower = Follower(caller, workflow_pk, pk, replace(query, limit=LARGEST_PAGE))
        first = await follower.begin()
    except SVOpsError as exc:
        return response_to(exc)
    is_over = isinstance(first, LogPage) and first.ended and not first.lines
    if last_event_id.endswith(ENDED) and is_over:
        follower.close()
        # After this answer, and no other, an EventSource does not come back.
        return HttpResponse(status=HTTPStatus.NO_CONTENT)
    return sse.stream(follower)


class Reader(Protocol):
    """`task_logs.read` or `task_logs.follow`."""

    def __call__(self, run: Run, query: LogQuery, *, user_id: int, now: datetime) -> LogPage | Preparing: ...


class Follower:
    """One reader of one growing log; it holds one of the process's slots from `begin` to `close`."""

    # Weak: an answer that is lost between the view and the client is never closed, but collected.
    following: ClassVar[WeakSet[Follower]] = WeakSet()

    def __init__(self, caller: Caller, workflow_pk: int, pk: UUID, query: LogQuery) -> None:
        self._caller = caller
        self._workflow_pk = workflow_pk
        self._pk = pk
        self._query = query
        self._first: LogPage | Preparing | None = None

    async def begin(self) -> LogPage | Preparing:
        """Take a slot and read the first page; raises `BusyError`, and what reading raises."""
        # No await between the count and the entry: of many requests at once, no more than the limit pass.
        self._require_room()
        Follower.following.add(self)
        try:
            self._first = await self._next(task_logs.read)
        except BaseException:
            self.close()
            raise
        return self._first

    def _require_room(self) -> None:
        mine = sum(follower._caller.user.pk == self._caller.user.pk for follower in Follower.following)
        if mine >= settings.LOG_FOLLOWERS_PER_USER:
            raise TooManyOfYoursError(f"You follow {mine} logs already. Close one of them.")
        if len(Follower.following) >= settings.LOG_FOLLOWERS:
            raise BusyError(f"{settings.LOG_FOLLOWERS} logs are followed already; try again later.")

    def close(self) -> None:
        """Give the slot back. Django calls this also when the client is gone before the first byte."""
        Follower.following.discard(self)

    async def __aiter__(self) -> AsyncIterator[str]:
        """The pages as text of the stream, until the log has ended or cannot be read."""
        page = self._first or await self.begin()
        loop = asyncio.get_running_loop()
        said_at = loop.time()
        try:
            yield _frame(page)
            while isinstance(page, Preparing) or not page.ended:
                if isinstance(page, Preparing) or not page.has_more:
                    await asyncio.sleep(PAUSE)
                page = await self._next(task_logs.follow)
                silence = loop.time() - said_at
                is_news = silence > PREPARING_EVERY if isinstance(page, Preparing) else bool(page.lines)
                if is_news:
                    yield _frame(page)
                elif silence > settings.STREAM_HEARTBEAT:
                    yield sse.comment("still here")
                else:
                    continue
                said_at = loop.time()
            yield sse.message("end", encode(replace(page, lines=[]).as_json()), cursor=f"{page.cursor}{ENDED}")
        except SVOpsError as exc:
            yield sse.message("error", encode({"code": exc.code, "detail": str(exc)}), cursor=self._query.cursor)
        finally:
            self.close()

    async def _next(self, reader: Reader) -> LogPage | Preparing:
        """Return the next page; each time it is checked that the caller may have it."""
        page = await database_sync_to_async(self._read)(reader)
        if isinstance(page, LogPage):
            self._query = replace(self._query, cursor=page.cursor, tail=None)
        else:
            # Another attempt may begin meanwhile. Somebody who asked for the newest waits for this one.
            self._query = replace(self._query, try_number=page.try_number)
        return page

    def _read(self, reader: Reader) -> LogPage | Preparing:
        caller = refreshed(self._caller)
        if caller is None:
            raise NotSignedInError("The session has ended.")
        if not caller.may(Scope.WORKFLOW_READ, TicketAction.LOGS):
            raise NotAllowedHereError(f"This needs the scope {Scope.WORKFLOW_READ}.")
        run = visible_run(caller.user, self._workflow_pk, self._pk)
        return reader(run, self._query, user_id=caller.user.pk, now=timezone.now())


def _frame(page: LogPage | Preparing) -> str:
    """Encode a page with its cursor. A reader of `preparing` has no new one and asks with its old one again."""
    if isinstance(page, LogPage):
        return sse.message("log", encode(page.as_json()), cursor=page.cursor)
    return sse.message("preparing", encode(page.as_json()))
