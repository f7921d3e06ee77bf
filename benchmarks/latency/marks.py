"""Writes when a push was received and its events committed and published, as lines of JSON in one file."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from django.http import HttpRequest, HttpResponseBase

from benchmarks.latency import MARKS_VARIABLE
from workflows.eventlog import publication
from workflows.eventlog.publication import Published

_current = threading.local()


def _write(**fields: Any) -> None:
    # A short write to a file opened for appending is never mixed with those of other processes.
    with open(os.environ[MARKS_VARIABLE], "a") as file:
        file.write(json.dumps(fields) + "\n")


def received(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware that writes the records of a push and the time at which it arrived."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if request.path == "/api/v1/ingest":
            _write(received=time.time(), records=json.loads(request.body)["records"])
        return get_response(request)

    return middleware


def install() -> None:
    """Mark each publication. It follows the commit at once: its start is the commit, its end the wake-up."""
    publish, wake = publication.publish, publication._send_wake_up

    def marked_publish() -> int:
        _current.committed = time.time()
        return publish()

    def marked_wake(events: Iterable[Published]) -> None:
        events = list(events)
        wake(events)
        _write(committed=_current.committed, published=time.time(), ids=[event.position for event in events])

    publication.publish, publication._send_wake_up = marked_publish, marked_wake
