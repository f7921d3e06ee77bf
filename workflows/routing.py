"""The WebSocket routes."""

from django.urls import path, re_path

from workflows.consumers import StreamConsumer, UnknownStreamConsumer

stream = StreamConsumer.as_asgi()

websocket_urlpatterns = [
    path("api/v1/ws", stream),
    path("api/v1/ws/user/<int:user_id>", stream),
    path("api/v1/ws/workflow/<int:workflow_id>", stream),
    path("api/v1/ws/user/<int:user_id>/workflow/<int:workflow_id>", stream),
    re_path("", UnknownStreamConsumer.as_asgi()),
]
