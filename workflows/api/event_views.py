"""The log over plain HTTP: by polling and as server-sent events. Envelope and cursor are those of the sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from http import HTTPStatus

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.renderers import BrowsableAPIRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.identity import Caller, Scope
from accounts.permissions import current_caller
from rest import sse
from rest.authorization import wrong_scheme
from rest.error_responses import response_to
from rest.errors import SVOpsError
from rest.query import LARGEST_INTEGER, StrictQuery, check_query
from rest.schema import errors
from rest.views import reads_only
from workflows.api.event_query import LARGEST_PAGE, NARROWING, EventQuery
from workflows.api.event_serializers import EventPageSerializer
from workflows.eventlog import publication
from workflows.eventlog.events import CATALOGUE
from workflows.live import admission
from workflows.live.admission import CloseError, NotSignedInError
from workflows.live.hub import Bundle, Control
from workflows.live.stream import Stream, encode
from workflows.models import Event

WHOLE = {"type": "integer", "minimum": 0, "maximum": LARGEST_INTEGER}
SIZE = {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE}


class CursorError(SVOpsError):
    """The log cannot be read from this cursor."""

    code = "cursor_gone"
    http_status = HTTPStatus.GONE


class EnvelopeRenderer(JSONRenderer):
    """Escapes as `publication` does, so that an envelope is the same on every transport, byte for byte."""

    ensure_ascii = True


class EventsView(StrictQuery, APIView):
    query_parameters = {"GET": NARROWING | {"limit"}}
    several_times = ("type",)
    required_scope = Scope.WORKFLOW_READ
    renderer_classes = [EnvelopeRenderer, BrowsableAPIRenderer]
    follows_bounds = True

    @extend_schema(
        operation_id="list_events",
        summary="Read the log after a cursor",
        description=(
            "Returns the events after `after`, in the order in which they became visible. Ask again with the answer's "
            "`cursor`: no event is missed or comes twice. `/events/stream` sends the same as server-sent events."
        ),
        parameters=[
            OpenApiParameter("after", WHOLE, description="A cursor. 0, the default, is the beginning."),
            OpenApiParameter("limit", SIZE, description=f"Most events, 1 to {LARGEST_PAGE}. Default: 200."),
            OpenApiParameter("workflow", WHOLE, description="Only events of this workflow."),
            OpenApiParameter("run", OpenApiTypes.UUID, description="Only events of this run."),
            OpenApiParameter("user", WHOLE, description="Only events of runs that this user triggered."),
            OpenApiParameter(
                "type", str, many=True, enum=sorted(CATALOGUE), description="Only events of this type. May be repeated."
            ),
        ],
        responses={200: EventPageSerializer, **errors(404, 410)},
    )
    def get(self, request: Request) -> Response:
        query = EventQuery.parse(request.query_params)
        caller = current_caller(request)
        admission.require_readable(caller, user_id=query.user_id, workflow_id=query.workflow_id, run_id=query.run_id)
        if refusal := publication.why_not_from(query.after or 0):
            raise CursorError(f"after: {refusal}. Take a snapshot and begin at its cursor.")
        # Read first: events that are published meanwhile come with the next call.
        head = publication.head()
        visible = Event.objects.visible_to(caller.user).filter(position__lte=head)
        found = list(query.narrow(visible).order_by("position")[: query.limit])
        cursor = found[-1].position if len(found) == query.limit else max(head, query.after or 0)
        return Response({"cursor": cursor, "results": [publication.envelope(event) for event in found]})


@reads_only
async def event_stream(request: HttpRequest) -> HttpResponseBase:
    """`GET /events/stream`: server-sent events, resumed by `Last-Event-ID` or `?after=`."""
    try:
        check_query(request.GET, NARROWING | {"ticket"}, several_times=("type",))
        query = EventQuery.parse(request.GET, last_event_id=request.headers.get("Last-Event-ID"))
        stream = await Stream.open(await caller_of(request), query.stream_filter())
    except SVOpsError as exc:
        return response_to(exc)
    return sse.stream(_server_sent(stream, after=query.after))


async def caller_of(request: HttpRequest) -> Caller:
    """Return the caller of a stream, named by bearer token, ticket or session."""
    if ticket := request.GET.get("ticket"):
        return await admission.authenticate(ticket, tickets_only=True)
    if token := admission.bearer(request.headers.get("Authorization", "")):
        return await admission.authenticate(token)
    caller = await admission.session_caller(request.user, request.session.session_key)
    if caller is None:
        why = wrong_scheme(request.headers.get("Authorization", ""))
        raise NotSignedInError(why or "Sign in first, with a bearer token or a session.")
    return caller


async def _server_sent(stream: Stream, *, after: int | None) -> AsyncIterator[str]:
    """Yield the stream as server-sent events. The `id` of each is the cursor from which a reader resumes after it."""
    head = stream.hub.position
    # A refused cursor stays the reader's own until the reader has got the refusal.
    cursor = head if after is None else after
    stream.put("connection.ready", cursor=head, heartbeat_s=settings.STREAM_HEARTBEAT, protocol=1)
    replay = None
    if after is None:
        stream.follow()
    else:
        replay = asyncio.create_task(stream.replay(after))
    try:
        async for items in _turns(stream, replay):
            texts = []
            for item in items:
                text, cursor = _text(item, cursor)
                texts.append(text)
            yield "".join(texts)
        yield sse.message("error", encode({"code": "too_slow", "close_code": admission.TOO_SLOW}), cursor=cursor)
    except CloseError as exc:
        reason = {"code": exc.code, "detail": str(exc), "close_code": exc.close_code}
        yield sse.message("error", encode(reason), cursor=cursor)
    finally:
        if replay:
            replay.cancel()
        stream.close()


async def _turns(stream: Stream, replay: asyncio.Task[None] | None) -> AsyncIterator[list[Bundle | Control]]:
    """Yield the queued frames again and again. At each heartbeat the caller's access is checked again.

    If the replay fails, its error ends the stream. The reader reconnects and asks again.
    """
    now = asyncio.get_running_loop().time
    beat_at = now() + settings.STREAM_HEARTBEAT
    woken = asyncio.Event()
    stream.client.wake = woken.set
    if replay:
        replay.add_done_callback(lambda _: woken.set())
    while not stream.client.overflowed:
        if items := stream.client.take():
            yield items
        else:
            with suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), max(0, beat_at - now()))
            woken.clear()
        if replay and replay.done():
            replay.result()
        if now() >= beat_at:
            await stream.beat()
            beat_at = now() + settings.STREAM_HEARTBEAT


def _text(item: Bundle | Control, cursor: int) -> tuple[str, int]:
    """Return the frames as text, and the cursor after them. `cursor` is that of the frame before."""
    if isinstance(item, Control):
        cursor = cursor if item.resume_from is None else item.resume_from
        return sse.message(item.type, item.frame, cursor=cursor), cursor
    text = "".join(sse.message(event.type, event.frame, cursor=event.position) for event in item.events)
    return text, item.events[-1].position
