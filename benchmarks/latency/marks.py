"""Notes when a push was received, its events committed and published: a line of JSON each, in one file for all."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from django.http import HttpRequest, HttpResponseBase

from benchmarks.latency import MARKS_VARIABLE
from workflows import outbox
from workflows.outbox import Published

_current = threading.local()


def _note(**fields: Any) -> None:
    # One short write to a file opened for appending is not torn by those of other processes.
    with open(os.environ[MARKS_VARIABLE], "a") as file:
        file.write(json.dumps(fields) + "\n")


def received(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: the records of a push, and when its first byte was here."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if request.path == "/api/v1/ingest":
            _note(received=time.time(), records=json.loads(request.body)["records"])
        return get_response(request)

    return middleware


def hang_in() -> None:
    """Publication follows the commit at once: its begin is the commit, the wake-up its end."""
    publish, wake = outbox.publish, outbox._wake

    def marked_publish() -> int:
        _current.committed = time.time()
        return publish()

    def marked_wake(events: Iterable[Published]) -> None:
        events = list(events)
        wake(events)
        _note(committed=_current.committed, published=time.time(), ids=[event.position for event in events])

    outbox.publish, outbox._wake = marked_publish, marked_wake
