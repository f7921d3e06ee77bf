"""The streams in the OpenAPI description. They are no views of DRF, so nothing else describes them."""

from __future__ import annotations

import inspect
from typing import Any, NotRequired, Required, get_args, get_origin, get_type_hints

from drf_spectacular.plumbing import resolve_type_hint

from workflows.api.event_schema import COMPONENTS, Schema
from workflows.live.frames import FRAMES, MESSAGES

V1 = "/api/v1"
LOGS = f"{V1}/workflows/{{workflow_pk}}/runs/{{id}}/tasks/{{task_id}}/logs"
TICKET = {
    "name": "ticket", "in": "query", "schema": {"type": "string"},
    "description": "A ticket, in place of a token: an EventSource cannot send headers.",
}  # fmt: skip
LAST_EVENT_ID = {
    "name": "Last-Event-ID", "in": "header", "schema": {"type": "string"},
    "description": "The `id` of the last event that was received; an EventSource sends it by itself.",
}  # fmt: skip


def declare_streams(result: Schema, **of_spectacular: Any) -> Schema:
    """Postprocessing hook: the two streams of server-sent events, and what is said on the WebSocket."""
    schemas: Schema = result["components"]["schemas"]
    schemas |= {kind.__name__: shape(kind) for kind in (*FRAMES, *MESSAGES)}
    schemas["StatusFrame"] = _typed("status", "The answer to `get_status`.", {
        "cursor": {"type": "integer"},
        "run": _ref("Run"),
        "tasks": {"type": "array", "items": _ref("Task")},
    })  # fmt: skip
    schemas["EventsFrame"] = _typed("events", "Several events at once.", {
        "events": {"type": "array", "items": _ref("Event")},
    })  # fmt: skip
    sent = [*(kind.__name__ for kind in FRAMES), "StatusFrame", "EventsFrame"]
    schemas["StreamFrame"] = {
        "description": "What the server sends on a WebSocket.",
        "anyOf": [_ref("Event"), *map(_ref, sent)],
    }
    schemas["StreamMessage"] = _one_of("What a client sends on a WebSocket.", [kind.__name__ for kind in MESSAGES])
    result["components"]["schemas"] = dict(sorted(schemas.items()))
    result["paths"] |= {
        f"{V1}/events/stream": _reading(
            result["paths"][f"{V1}/events"]["get"],
            {"limit"},
            operationId="stream_events",
            summary="Follow the log",
            description=(
                "Server-sent events: the name of each is the `type` of its `data`, which is a `StreamFrame` as JSON. "
                "The `id` of each is a cursor: a reader that comes back with it as `Last-Event-ID` misses nothing."
            ),
        ),
        f"{LOGS}/stream": _reading(
            result["paths"][LOGS]["get"],
            set(),
            operationId="stream_task_log",
            summary="Follow the log of a task",
            description=(
                "Server-sent events: `log` for new lines and one `end` (their `data` is a `Log` as JSON), `preparing` "
                "(a `LogPreparing`), and `error` if it cannot continue. 204 after the `end`: an EventSource stops."
            ),
        ),
    }
    result["paths"] = dict(sorted(result["paths"].items()))
    return result


def _reading(paged: Schema, without: set[str], **words: str) -> Schema:
    """Return the path of a stream. It has the parameters and the errors of what `paged` returns in pages."""
    parameters = [parameter for parameter in paged["parameters"] if parameter["name"] not in without]
    text = {"text/event-stream": {"schema": {"type": "string"}}}
    own = {"200": {"description": "A stream that does not end by itself.", "content": text}}
    if words["operationId"] == "stream_task_log":
        own["204"] = {"description": "The log has ended, and the reader has all of it."}
    kept = {status: answer for status, answer in paged["responses"].items() if status >= "400" and status != "406"}
    of_stream = {
        **words,
        "parameters": [*parameters, TICKET, LAST_EVENT_ID],
        "tags": paged["tags"],
        "security": paged["security"],
        "responses": own | kept,
    }
    return {"get": of_stream}


def shape(kind: Any) -> Schema:
    hints = get_type_hints(kind, include_extras=True)
    properties = {name: _type(hint) for name, hint in hints.items()}
    required = [name for name, hint in hints.items() if get_origin(hint) is not NotRequired]
    return {
        "type": "object",
        "description": inspect.getdoc(kind),
        "properties": properties,
        "required": required,
    }


def _type(hint: Any) -> Schema:
    inner = get_args(hint)[0] if get_origin(hint) in {NotRequired, Required} else hint
    schema: Schema = resolve_type_hint(inner)  # type: ignore[no-untyped-call]
    if len(schema.get("enum", ())) == 1:
        return {"type": "string", "const": schema["enum"][0]}
    return schema


def _typed(kind: str, description: str, properties: Schema) -> Schema:
    fields = {"type": {"type": "string", "const": kind}, **properties}
    return {"type": "object", "description": description, "properties": fields, "required": list(fields)}


def _one_of(description: str, names: list[str]) -> Schema:
    return {"description": description, "oneOf": [_ref(name) for name in names]}


def _ref(name: str) -> Schema:
    return {"$ref": f"{COMPONENTS}{name}"}
