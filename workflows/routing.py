"""The WebSocket routes."""

from typing import Any

from django.urls import path, re_path

from workflows.consumers import StreamConsumer, UnknownStreamConsumer

# Django's path() is typed for views. Channels passes it ASGI applications.
stream: Any = StreamConsumer.as_asgi()
unknown: Any = UnknownStreamConsumer.as_asgi()

websocket_urlpatterns: list[Any] = [
    path("api/v1/ws", stream),
    path("api/v1/ws/user/<int:user_id>", stream),
    path("api/v1/ws/workflow/<int:workflow_id>", stream),
    path("api/v1/ws/user/<int:user_id>/workflow/<int:workflow_id>", stream),
    re_path("", unknown),
]
