"""The WebSocket routes."""

from typing import Any

from django.urls import path, re_path

from workflows.consumers import StreamConsumer, UnknownStreamConsumer

# Django's path() is typed for views. Channels passes it ASGI applications.
stream: Any = StreamConsumer.as_asgi()
unknown: Any = UnknownStreamConsumer.as_asgi()

STREAMS = (
    "ws",
    "ws/user/<int:user_id>",
    "ws/workflow/<int:workflow_id>",
    "ws/user/<int:user_id>/workflow/<int:workflow_id>",
)

websocket_urlpatterns: list[Any] = [
    # A slash at the end is accepted, as in REST.
    *(path(f"api/v1/{route}{end}", stream) for route in STREAMS for end in ("", "/")),
    re_path("", unknown),
]
