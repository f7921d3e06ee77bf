"""The WebSocket streams as AsyncAPI 3, made from what OpenAPI describes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workflows.api.event_schema import COMPONENTS, Schema, closure
from workflows.eventlog.events import CATALOGUE
from workflows.live.frames import FRAMES, MESSAGES

STREAMS = {
    "everything": ("/api/v1/ws", "Everything that the caller may see."),
    "user": ("/api/v1/ws/user/{user_id}", "What this user has triggered: oneself; for admins, anybody."),
    "workflow": ("/api/v1/ws/workflow/{workflow_id}", "One workflow."),
    "userAndWorkflow": (
        "/api/v1/ws/user/{user_id}/workflow/{workflow_id}",
        "What this user has triggered of one workflow.",
    ),
}
QUERY = {
    "type": "object",
    "properties": {
        "after": {"type": "integer", "minimum": 0, "description": "A cursor: the replay of the log begins behind it."},
        "ticket": {"type": "string", "description": "A ticket, the only secret that is accepted in a URL."},
    },
}
SECURITY = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "Or the sub-protocols `svops.v1` and `bearer.<token>`, or the message `auth`, or `?ticket=`.",
    }
}


def asyncapi(description: Mapping[str, Any]) -> Schema:
    """Return the AsyncAPI document, from the OpenAPI description."""
    events = [f"{data.__name__}Event" for data in CATALOGUE.values()]
    sent = [*events, *(kind.__name__ for kind in FRAMES), "StatusFrame", "EventsFrame"]
    taken = [kind.__name__ for kind in MESSAGES]
    schemas = closure(description, [*sent, *taken])
    # AsyncAPI's own discriminator is another thing.
    schemas["Event"] = {name: part for name, part in schemas["Event"].items() if name != "discriminator"}
    info = description["info"]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": f"{info['title']}: live streams",
            "version": info["version"],
            "license": info["license"],
            "description": "docs/streams.md says how a client resumes without a gap.",
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(address, text, [*sent, *taken]) for name, (address, text) in STREAMS.items()},
        "operations": {
            operation: part
            for name in STREAMS
            for operation, part in (
                (f"{name}.sent", _operation("send", name, sent, "What the server sends.")),
                (f"{name}.taken", _operation("receive", name, taken, "What a client may send.")),
            )
        },
        "components": {
            "messages": {name: _message(name, schemas[name]) for name in [*sent, *taken]},
            "schemas": schemas,
            "securitySchemes": SECURITY,
        },
    }


def _channel(address: str, text: str, messages: list[str]) -> Schema:
    names = [part.strip("{}") for part in address.split("/") if part.startswith("{")]
    return {
        "address": address,
        "description": text,
        "parameters": {name: {"description": "An id, a whole number."} for name in names},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"ws": {"method": "GET", "query": QUERY, "bindingVersion": "0.1.0"}},
    }


def _operation(action: str, channel: str, messages: list[str], text: str) -> Schema:
    return {
        "action": action,
        "description": text,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
        "security": [{"$ref": "#/components/securitySchemes/token"}],
    }


def _message(name: str, schema: Mapping[str, Any]) -> Schema:
    kind: Mapping[str, Any] = schema["properties"]["type"]
    return {
        "name": kind["const"],
        "title": name,
        "summary": schema["description"],
        "payload": {"$ref": f"{COMPONENTS}{name}"},
    }
