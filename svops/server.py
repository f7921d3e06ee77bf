"""The web process: uvicorn with all of its options, the same on a bare machine, in the image and in Compose.

python -m svops.server --host 0.0.0.0 --port 8000
"""

from __future__ import annotations

import argparse
import os
import sys

import uvicorn

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "svops.settings")

from django.conf import settings

from svops.protocols import BoundedWebSocket, PatientHttp

APPLICATION = "svops.asgi:application"
# Seconds that a thread computes while others wait. With Python's 5 ms, a request that asks the database and Redis ten
# times waits ten times for each of the requests that compute, and so does the event loop with every stream.
SWITCH_INTERVAL = 0.0005


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m svops.server", description="Serve HTTP and WebSocket.")
    parser.add_argument("--host", default=settings.SVOPS_HOST)
    parser.add_argument("--port", type=int, default=settings.SVOPS_PORT)
    parser.add_argument("--grace", type=int, default=3, help="seconds that open requests have when it stops")
    given = parser.parse_args()
    sys.setswitchinterval(SWITCH_INTERVAL)
    uvicorn.run(
        APPLICATION,
        host=given.host,
        port=given.port,
        timeout_graceful_shutdown=given.grace,
        http=PatientHttp,
        ws=BoundedWebSocket,
        ws_max_size=settings.STREAM_MESSAGE_BYTES,
        # Compression of each frame costs twice the processor time and much memory.
        ws_per_message_deflate=False,
        # TRUST_PROXY decides which proxies may report the client's address.
        proxy_headers=False,
        server_header=False,
    )


if __name__ == "__main__":
    main()
