"""Logs of tasks: a page at a time, and followed as server-sent events until they have ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict, StreamingHttpResponse
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import refreshed
from accounts.identity import Caller, Scope, TicketAction
from accounts.models import User
from accounts.permissions import current_user
from svops.api import reads_only
from svops.errors import InvalidInputError, NotFoundError, SVOpsError
from svops.query import StrictQuery, refuse_unknown, whole
from svops.schema import errors
from workflows import stream_access, task_logs
from workflows.api.event_views import caller_of, refusal
from workflows.models import Run
from workflows.stream import encode
from workflows.stream_access import NotAllowedHereError, NotSignedInError
from workflows.task_logs import LARGEST_PAGE, Cursor, LogPage, LogQuery

# Each follower has Airflow read the log again and again.
MOST_FOLLOWERS = 50
SHORTEST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
# A pass that took long is followed by a pause so many times as long.
PAUSE_PER_READING = 4
PARAMETERS = frozenset({"try_number", "map_index", "cursor", "tail", "limit"})
NUMBER: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
INDEX = {**NUMBER, "minimum": -1}
LINES = {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE}


class LogLineSerializer(serializers.Serializer[Any]):
    timestamp = serializers.DateTimeField(allow_null=True, help_text="Null for a line that has none of its own.")
    level = serializers.CharField(allow_null=True)
    text = serializers.CharField()


class LogSerializer(serializers.Serializer[Any]):
    """Lines of the log of one attempt, oldest first."""

    task_id = serializers.CharField()
    map_index = serializers.IntegerField()
    try_number = serializers.IntegerField(help_text="The attempt; 0 for a task that has not begun.")
    state = serializers.CharField(allow_null=True, help_text="Airflow's word; null for an attempt before the newest.")
    lines = LogLineSerializer(many=True)
    cursor = serializers.CharField(help_text="Ask again with it for the lines that follow.")
    has_more = serializers.BooleanField(help_text="Whether lines follow already.")
    ended = serializers.BooleanField(help_text="Whether no line will ever follow: the process that wrote them is gone.")


class TaskLogView(StrictQuery, APIView):
    query_parameters = {"GET": PARAMETERS}
    required_scope = Scope.WORKFLOW_READ
    follows_bounds = True
    ticket_actions = {"GET": frozenset({TicketAction.LOGS})}

    @extend_schema(
        operation_id="task_log",
        summary="Read the log of a task",
        description=(
            "Ask again with the `cursor` of the answer until `ended`. `…/logs/stream` pushes the same pages as "
            "server-sent events: `log` as lines come, and a last one called `end`; `Last-Event-ID` is the cursor, so "
            "that an `EventSource` resumes by itself, and is told by 204 that there is nothing to resume."
        ),
        parameters=[
            OpenApiParameter("try_number", NUMBER, description="The attempt; else the newest."),
            OpenApiParameter("map_index", INDEX, description="The instance of a mapped task, from 0 on; else -1."),
            OpenApiParameter("cursor", str, description="Go on where the answer with this cursor ended."),
            OpenApiParameter("tail", LINES, description=f"Only the last so many lines, 1 to {LARGEST_PAGE}."),
            OpenApiParameter("limit", LINES, description=f"At most so many lines, 1 to {LARGEST_PAGE}; else 1000."),
        ],
        responses={200: LogSerializer, **errors(502)},
    )
    def get(self, request: Request, workflow_pk: int, pk: UUID, task_id: str) -> Response:
        query = parse(request.query_params, task_id)
        run = visible_run(current_user(request), workflow_pk, pk)
        return Response(task_logs.read(run, query, now=timezone.now()).as_json())


@reads_only
async def log_stream(request: HttpRequest, workflow_pk: int, pk: UUID, task_id: str) -> HttpResponseBase:
    """`GET …/logs/stream`: the log as server-sent events, resumed by `Last-Event-ID` or `?cursor=`."""
    last_event_id = request.headers.get("Last-Event-ID")
    try:
        refuse_unknown(request.GET, PARAMETERS | {"ticket"})
        query = parse(request.GET, task_id, last_event_id=last_event_id)
        caller = await caller_of(request)
        await stream_access.admit(caller)
        follower = Follower(caller, workflow_pk, pk, replace(query, limit=LARGEST_PAGE))
        first = await follower.read()
    except SVOpsError as exc:
        return refusal(exc)
    if last_event_id and first.ended and not first.lines:
        # The one answer after which an EventSource does not come back.
        return HttpResponse(status=HTTPStatus.NO_CONTENT)
    return StreamingHttpResponse(
        follower.pages(first),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


class TooManyFollowersError(SVOpsError):
    """As many logs are followed as one process will."""

    code = "too_many_followers"
    http_status = HTTPStatus.SERVICE_UNAVAILABLE
    retryable = True


class Follower:
    """One reader of one growing log."""

    count = 0

    def __init__(self, caller: Caller, workflow_pk: int, pk: UUID, query: LogQuery) -> None:
        self._caller = caller
        self._workflow_pk = workflow_pk
        self._pk = pk
        self._query = query

    async def read(self) -> LogPage:
        """The next page; whether the caller may have it is looked at each time."""
        if Follower.count >= MOST_FOLLOWERS:
            raise TooManyFollowersError(f"{MOST_FOLLOWERS} logs are followed already; try again later.")
        return await self._next()

    async def pages(self, page: LogPage) -> AsyncIterator[str]:
        """This page and those that come, as text of the stream, until the log has ended or can not be read."""
        Follower.count += 1
        loop = asyncio.get_running_loop()
        said_at, cost = loop.time(), 0.0
        try:
            yield _event("log", page)
            while not page.ended:
                if not page.has_more:
                    await asyncio.sleep(min(max(SHORTEST_PAUSE, PAUSE_PER_READING * cost), LONGEST_PAUSE))
                began = loop.time()
                page = await self._next()
                cost = loop.time() - began
                if page.lines:
                    yield _event("log", page)
                elif loop.time() - said_at > settings.STREAM_HEARTBEAT:
                    yield ": still here\n\n"
                else:
                    continue
                said_at = loop.time()
            yield _event("end", replace(page, lines=[]))
        except SVOpsError as exc:
            yield f"event: error\ndata: {encode({'code': exc.code, 'detail': str(exc)})}\n\n"
        finally:
            Follower.count -= 1

    async def _next(self) -> LogPage:
        page = await database_sync_to_async(self._read)()
        self._query = replace(self._query, cursor=page.cursor, tail=None)
        return page

    def _read(self) -> LogPage:
        caller = refreshed(self._caller)
        if caller is None:
            raise NotSignedInError("The session has ended.")
        if not caller.may(Scope.WORKFLOW_READ, TicketAction.LOGS):
            raise NotAllowedHereError(f"This needs the scope {Scope.WORKFLOW_READ}.")
        run = visible_run(caller.user, self._workflow_pk, self._pk)
        return task_logs.read(run, self._query, now=timezone.now())


def visible_run(user: User, workflow_pk: int, pk: UUID) -> Run:
    """The run, if it is there and the user may see it."""
    run = Run.objects.visible_to(user).filter(workflow=workflow_pk, pk=pk).first()
    if run is None:
        raise NotFoundError("There is no such run, or none that you may see.")
    return run


def parse(params: QueryDict, task_id: str, *, last_event_id: str | None = None) -> LogQuery:
    """Raises `InvalidInputError` that names the parameter and what was expected."""
    cursor = last_event_id or params.get("cursor")
    map_index = whole("map_index", params.get("map_index"), at_least=-1, at_most=NUMBER["maximum"])
    query = LogQuery(
        task_id=task_id,
        map_index=-1 if map_index is None else map_index,
        try_number=whole("try_number", params.get("try_number"), at_most=NUMBER["maximum"]),
        cursor=Cursor.parse(cursor) if cursor else None,
        tail=whole("tail", params.get("tail"), at_least=1, at_most=LARGEST_PAGE),
        limit=whole("limit", params.get("limit"), at_least=1, at_most=LARGEST_PAGE) or 1000,
    )
    if query.cursor and query.try_number not in {None, query.cursor.try_number}:
        raise InvalidInputError({"cursor": [f"It is of attempt {query.cursor.try_number}, not {query.try_number}."]})
    return query


def _event(kind: str, page: LogPage) -> str:
    return f"id: {page.cursor}\nevent: {kind}\ndata: {encode(page.as_json())}\n\n"
