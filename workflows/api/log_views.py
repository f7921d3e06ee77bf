"""Logs of tasks, page by page. `log_stream` follows them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.http import QueryDict
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.identity import Scope, TicketAction
from accounts.models import User
from accounts.permissions import current_user
from rest.errors import InvalidInputError, NotFoundError
from rest.query import StrictQuery, whole
from rest.schema import errors
from workflows import task_logs
from workflows.api.log_serializers import LogNotFoundSerializer, LogPreparingSerializer, LogSerializer
from workflows.models import Run
from workflows.task_logs import LARGEST_PAGE, Cursor, LogQuery, Preparing

PARAMETERS = frozenset({"try_number", "map_index", "cursor", "tail", "limit"})
NUMBER: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
INDEX = {**NUMBER, "minimum": -1}
LINES = {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE}


class TaskLogView(StrictQuery, APIView):
    query_parameters = {"GET": PARAMETERS}
    required_scope = Scope.WORKFLOW_READ
    follows_bounds = True
    ticket_actions = {"GET": frozenset({TicketAction.LOGS})}

    @extend_schema(
        operation_id="read_task_log",
        summary="Read the log of a task",
        description=(
            "Ask again with the `cursor` of the answer until `ended`. 202: Airflow is still preparing the log; repeat "
            "the same request after `Retry-After` seconds. `…/logs/stream` pushes the same pages as server-sent "
            "events: `log` for new lines, `preparing`, and one `end` at the end. `Last-Event-ID` continues after the "
            "event with this id, so an `EventSource` resumes by itself. 204 stops one that has had the `end`."
        ),
        parameters=[
            OpenApiParameter("try_number", NUMBER, description="The attempt; the newest by default."),
            OpenApiParameter("map_index", INDEX, description="The instance of a mapped task, from 0; -1 by default."),
            OpenApiParameter("cursor", str, description="Continue after the answer with this cursor."),
            OpenApiParameter("tail", LINES, description=f"Only so many of the last lines, 1 to {LARGEST_PAGE}."),
            OpenApiParameter("limit", LINES, description=f"At most so many lines, 1 to {LARGEST_PAGE}; else 1000."),
        ],
        responses={
            200: LogSerializer,
            202: LogPreparingSerializer,
            **errors(404, shape=LogNotFoundSerializer),
            **errors(409, 502),
        },
    )
    def get(self, request: Request, workflow_pk: int, pk: UUID, task_id: str) -> Response:
        query = parse(request.query_params, task_id)
        user = current_user(request)
        run = visible_run(user, workflow_pk, pk)
        page = task_logs.read(run, query, user_id=user.pk, now=timezone.now())
        if isinstance(page, Preparing):
            headers = {"Retry-After": str(page.retry_after)}
            return Response(page.as_json(), status=HTTPStatus.ACCEPTED, headers=headers)
        return Response(page.as_json())


def visible_run(user: User, workflow_pk: int, pk: UUID) -> Run:
    """Return the run if the user can see it, else raise `NotFoundError`."""
    run = Run.objects.visible_to(user).filter(workflow=workflow_pk, pk=pk).first()
    if run is None:
        raise NotFoundError("There is no such run, or you cannot see it.")
    return run


def parse(params: QueryDict, task_id: str, *, last_event_id: str | None = None) -> LogQuery:
    """Read the query; raise `InvalidInputError` with the parameter's name and what was expected."""
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
        expected = f"It belongs to attempt {query.cursor.try_number}, not to {query.try_number}."
        raise InvalidInputError({"cursor": [expected]})
    return query
