"""What a browser loads first."""

from __future__ import annotations

import re
from urllib.parse import urljoin

from django.test import Client

from benchmarks.rows.lists import bare_view
from benchmarks.table.row import Row, Work, at_most, ratio
from benchmarks.table.stage import ANSWER_BYTES, Stage

GZIP = "gzip"
FILES, ASKED_AGAIN = "files", "files asked again"
REFERENCE = re.compile(r"""(?:src|href)="([^"]+\.(?:js|css|svg|woff2)[^"]*)\"""")
IMPORT = re.compile(r"""(?:from|import)\s*\(?\s*["'](\.[^"']+)["']""")


def _schema(stage: Stage) -> Work:
    client = stage.client()
    path = "/api/v1/schema"
    client.get(path, headers={"Accept-Encoding": GZIP})

    def work() -> None:
        for _ in range(stage.many):
            answer = client.get(path, headers={"Accept-Encoding": GZIP})
            assert answer.status_code == 200
            stage.counters.add(ANSWER_BYTES, len(answer.getvalue()))

    return work


def _first_view(stage: Stage) -> Work:
    """Load the page, its styles and its modules, as a browser without a cache does, but ask the API nothing."""
    client = Client()
    client.force_login(stage.user())
    everything_the_page_loads(client, stage)

    def work() -> None:
        loaded = everything_the_page_loads(client, stage)
        stage.counters.add(FILES, len(loaded))
        stage.counters.add(ASKED_AGAIN, sum(not is_kept for is_kept in loaded.values()))

    return work


def everything_the_page_loads(client: Client, stage: Stage) -> dict[str, bool]:
    """Return the addresses, and whether the browser keeps what is there without asking again."""
    loaded: dict[str, bool] = {}
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        if path in loaded:
            continue
        answer = client.get(path, headers={"Accept-Encoding": ""})
        assert answer.status_code == 200, f"{path}: {answer.status_code}"
        loaded[path] = "max-age=31536000" in answer.headers.get("Cache-Control", "")
        text = answer.getvalue().decode()
        found = REFERENCE.findall(text) if path == "/" else IMPORT.findall(text) if ".js" in path else []
        waiting += [urljoin(path, reference) for reference in found]
        stage.counters.add(ANSWER_BYTES, len(client.get(path, headers={"Accept-Encoding": GZIP}).getvalue()))
    return loaded


ROWS = [
    Row(
        name="GET /schema",
        goals=(at_most(10, "cpu"), ratio("cpu", at_most=2.5)),
        subject=_schema,
        peer=bare_view("/api/v1/schema", accept_encoding=GZIP),
        peer_name="a bare view with the same bytes",
        many=5,
        seen="270 ms",
    ),
    Row(
        name="first view of the console",
        goals=(at_most(1, ASKED_AGAIN),),
        subject=_first_view,
        seen="33 requests, each asked again",
    ),
]
