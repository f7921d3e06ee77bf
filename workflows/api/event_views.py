"""The log over plain HTTP: by keyset polling, and as server-sent events. Same envelope and cursor as on sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase, JsonResponse, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.renderers import BrowsableAPIRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.identity import Caller, Scope
from accounts.permissions import current_caller
from svops.api import error_body, error_headers, reads_only
from svops.errors import InvalidInputError, SVOpsError
from svops.query import LARGEST_INTEGER, StrictQuery, refuse_unknown
from svops.schema import errors
from workflows import outbox, stream_access
from workflows.api.event_query import LARGEST_PAGE, NARROWING, EventQuery
from workflows.api.serializers import EventPageSerializer
from workflows.events import CATALOGUE
from workflows.hub import Bundle, Control
from workflows.models import Event
from workflows.outbox import Published
from workflows.stream import Stream, encode
from workflows.stream_access import CloseError, NotSignedInError

WHOLE = {"type": "integer", "minimum": 0, "maximum": LARGEST_INTEGER}
SIZE = {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE}


class CursorError(SVOpsError):
    """The log can not be read on from this cursor."""

    code = "cursor_gone"
    http_status = HTTPStatus.GONE


class EnvelopeRenderer(JSONRenderer):
    """Escapes as `outbox` does: an envelope is the same on every transport, byte for byte."""

    ensure_ascii = True


class EventsView(StrictQuery, APIView):
    query_parameters = {"GET": NARROWING | {"limit"}}
    required_scope = Scope.WORKFLOW_READ
    renderer_classes = [EnvelopeRenderer, BrowsableAPIRenderer]
    follows_bounds = True

    @extend_schema(
        operation_id="events_list",
        summary="Read the log after a cursor",
        description=(
            "The events after `after`, in the order in which they became visible. Ask again with the `cursor` of "
            "the answer: nothing is missed and nothing comes twice. `/events/stream` pushes the same as "
            "server-sent events."
        ),
        parameters=[
            OpenApiParameter("after", WHOLE, description="A cursor; 0, the default, is the beginning."),
            OpenApiParameter("limit", SIZE, description=f"At most so many events, 1 to {LARGEST_PAGE}; else 200."),
            OpenApiParameter("workflow", WHOLE, description="Of this workflow."),
            OpenApiParameter("run", OpenApiTypes.UUID, description="Of this run."),
            OpenApiParameter("user", WHOLE, description="Of what this user triggered."),
            OpenApiParameter(
                "type", str, many=True, enum=sorted(CATALOGUE), description="Of this type; may be given several times."
            ),
        ],
        responses={200: EventPageSerializer, **errors(404, 410)},
    )
    def get(self, request: Request) -> Response:
        query = EventQuery.parse(request.query_params)
        caller = current_caller(request)
        stream_access.require_readable(
            caller, user_id=query.user_id, workflow_id=query.workflow_id, run_id=query.run_id
        )
        if refusal := outbox.why_not_from(query.after or 0):
            raise CursorError(f"after: {refusal}; take a snapshot and begin at its cursor.")
        # Read first: what is published meanwhile waits for the next call.
        head = outbox.head()
        visible = Event.objects.visible_to(caller.user).filter(position__lte=head)
        found = list(query.narrow(visible).order_by("position")[: query.limit])
        cursor = found[-1].position if len(found) == query.limit else max(head, query.after or 0)
        return Response({"cursor": cursor, "results": [outbox.envelope(event) for event in found]})


@reads_only
async def event_stream(request: HttpRequest) -> HttpResponseBase:
    """`GET /events/stream`: server-sent events, resumed by `Last-Event-ID` or `?after=`."""
    try:
        refuse_unknown(request.GET, NARROWING | {"ticket"})
        query = EventQuery.parse(request.GET, last_event_id=request.headers.get("Last-Event-ID"))
        stream = await Stream.open(await caller_of(request), query.wanted())
    except SVOpsError as exc:
        return refusal(exc)
    return StreamingHttpResponse(
        _server_sent(stream, after=query.after),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def caller_of(request: HttpRequest) -> Caller:
    """Whoever asks for a stream: by bearer token, by ticket or by session."""
    if ticket := request.GET.get("ticket"):
        return await stream_access.authenticate(ticket, tickets_only=True)
    if token := stream_access.bearer(request.headers.get("Authorization", "")):
        return await stream_access.authenticate(token)
    caller = await stream_access.session_caller(request.user, request.session.session_key)
    if caller is None:
        raise NotSignedInError("Sign in first: with a bearer token or a session.")
    return caller


def refusal(exc: SVOpsError) -> JsonResponse:
    """The answer of a stream that does not begin."""
    more: dict[str, Any] = {"errors": exc.errors} if isinstance(exc, InvalidInputError) else exc.extra
    return JsonResponse(error_body(exc.code, str(exc), **more), status=exc.http_status, headers=error_headers(exc))


async def _server_sent(stream: Stream, *, after: int | None) -> AsyncIterator[str]:
    """Events as https://html.spec.whatwg.org/multipage/server-sent-events.html has them; `id` is the cursor."""
    stream.put("connection.ready", cursor=stream.hub.position, heartbeat_s=settings.STREAM_HEARTBEAT, protocol=1)
    replay = None
    if after is None:
        stream.follow()
    else:
        replay = asyncio.create_task(stream.replay(after))
    try:
        async for items in _turns(stream, replay):
            yield "".join(_text(item) for item in items)
        yield _text(Control("error", encode({"code": "too_slow", "close_code": stream_access.TOO_SLOW})))
    except CloseError as exc:
        reason = {"code": exc.code, "detail": str(exc), "close_code": exc.close_code}
        yield _text(Control("error", encode(reason)))
    finally:
        if replay:
            replay.cancel()
        stream.close()


async def _turns(stream: Stream, replay: asyncio.Task[None] | None) -> AsyncIterator[list[Bundle | Control]]:
    """What is queued, time after time; at each heartbeat the caller's rights are looked at again.

    A replay that fails ends it, with its error: the reader comes back and asks anew.
    """
    now = asyncio.get_running_loop().time
    beat_at = now() + settings.STREAM_HEARTBEAT
    woken = asyncio.Event()
    stream.client.wake = woken.set
    if replay:
        replay.add_done_callback(lambda _: woken.set())
    while not stream.client.overflown:
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


def _text(item: Bundle | Control) -> str:
    if isinstance(item, Control):
        return _message(item)
    return "".join(f"id: {event.position}\n{_message(event)}" for event in item.events)


def _message(item: Published | Control) -> str:
    return f"event: {item.type}\ndata: {item.frame}\n\n"
