"""HTTP by Django, WebSocket by Channels."""

import os

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "svops.settings")
django_application = get_asgi_application()

from accounts.early_refusals import EarlyRefusals  # noqa: E402 - settings can be read only now
from rest.bodies import BoundedBody  # noqa: E402
from svops.cross_origin import CrossOrigin  # noqa: E402
from svops.health import Readiness  # noqa: E402
from svops.proxied import Proxied  # noqa: E402
from workflows.api.waiting import Waiting  # noqa: E402 - models can be imported only now
from workflows.live.door import Door  # noqa: E402
from workflows.live.wire import WithWire  # noqa: E402
from workflows.routing import websocket_urlpatterns  # noqa: E402

application = Proxied(
    WithWire(
        ProtocolTypeRouter(
            {
                "http": CrossOrigin(EarlyRefusals(Readiness(BoundedBody(Waiting(django_application))))),
                "websocket": Door(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
            }
        )
    )
)
