"""A webhook receiver that sometimes fails, hangs up or takes its time, and counts what it has accepted."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver:
    """`accepted` counts (id of the event, id of the message) that were answered with 200."""

    def __init__(self, *, seed: int) -> None:
        self.accepted: Counter[tuple[int, str]] = Counter()
        self._seen: set[str] = set()
        self._rng = random.Random(f"{seed}:receiver")
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()

    def take(self, message_id: str, body: bytes) -> int:
        """The status to answer with; the first try of some messages fails."""
        with self._lock:
            is_new = message_id not in self._seen
            self._seen.add(message_id)
            if is_new and self._rng.random() < 0.1:
                return self._rng.choice((500, 503, 0))
            self.accepted[json.loads(body)["id"], message_id] += 1
            return 200

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.take(self.headers["webhook-id"], body)
                if not status:
                    self.connection.close()
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the journal tells enough."""

        return Handler
