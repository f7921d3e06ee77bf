"""HTTP by Django, WebSocket by Channels."""

import os

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "svops.settings")
django_application = get_asgi_application()

from svops.bodies import BoundedBody  # noqa: E402 - settings can be read only now
from workflows.routing import websocket_urlpatterns  # noqa: E402 - models can be imported only now
from workflows.wire import WithWire  # noqa: E402

application = WithWire(
    ProtocolTypeRouter(
        {
            "http": BoundedBody(django_application),
            "websocket": AuthMiddlewareStack(URLRouter(websocket_urlpatterns)),
        }
    )
)
