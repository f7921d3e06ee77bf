"""`python -m tests.control.victim`: executes orders given as JSON lines, each in a fork of itself, which kills
itself at the step that the order names. A step is a line of ours, or of Django's transactions, about to be run.

Answers each order with two JSON lines: the pid of the fork once it exists, and how it ended.
"""

from __future__ import annotations

import gc
import http.client
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import django
from django.utils.module_loading import import_string

os.environ["DJANGO_SETTINGS_MODULE"] = "svops.settings"
django.setup()

from django.conf import settings  # noqa: E402 - after the set-up
from django.db import connection  # noqa: E402
from django.db.backends.base.base import BaseDatabaseWrapper  # noqa: E402
from django.db.backends.utils import CursorWrapper  # noqa: E402
from django.utils import timezone  # noqa: E402
from rest_framework.test import APIClient  # noqa: E402

from workflows import gateway  # noqa: E402
from workflows.dispatch import dispatcher  # noqa: E402
from workflows.naming import DEFAULT  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
CLIENT = APIClient()


@cache
def is_ours(filename: str) -> bool:
    path = Path(filename)
    if not path.is_relative_to(ROOT / "workflows"):
        return filename.endswith("django/db/transaction.py")
    return "tests" not in path.parts


def effect(frame: FrameType) -> str:
    """Return what the call is about to change outside of this process; "" for a call that changes nothing there."""
    match frame.f_code:
        case BaseDatabaseWrapper._commit.__code__:  # type: ignore[attr-defined] # the stubs leave it out
            return "commit"
        case http.client.HTTPConnection.endheaders.__code__:
            return "request"
        case CursorWrapper._execute.__code__ if not connection.in_atomic_block:  # type: ignore[attr-defined]
            # It commits by itself.
            return "write" if frame.f_locals["sql"].lstrip().startswith(("INSERT", "UPDATE", "DELETE", "WITH")) else ""
    return ""


class Steps:
    """A trace function that counts steps, notes those with an effect, and kills the process before a given step."""

    def __init__(self, dies_at: int, says: int) -> None:
        self.count = 0
        self.effects: list[tuple[int, str]] = []
        self._dies_at = dies_at
        self._says = says

    def __call__(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        if found := effect(frame):
            self.effects.append((self.count, found))
        return self._step if is_ours(frame.f_code.co_filename) else None

    def _step(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any]:
        if event == "line":
            self.count += 1
            if self.count == self._dies_at:
                where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"
                os.write(self._says, json.dumps({"at": where}).encode())
                os.kill(os.getpid(), signal.SIGKILL)
        return self._step


def request(order: dict[str, Any]) -> Any:
    """POST as a client would; the whole way through middleware, view and service."""
    answer = CLIENT.post(order["path"], order["body"], headers={"Host": "127.0.0.1", **order["headers"]})
    return {"status": answer.status_code, "body": json.loads(answer.content)}


def dispatch(order: dict[str, Any]) -> Any:
    """Do what the beat task does."""
    return dispatcher.dispatch_due(DEFAULT, now=timezone.now())


def circuit(order: dict[str, Any]) -> Any:
    """Return whether the breaker of this process lets calls through."""
    return gateway.breaker_is_closed(DEFAULT)


ACTIONS = {action.__name__: action for action in (request, dispatch, circuit)}


def live(order: dict[str, Any], says: int) -> NoReturn:
    """Execute the order and leave, unless its step comes first."""
    steps = Steps(order["dies_at"], says)
    code = 1
    try:
        threading.settrace(steps)
        sys.settrace(steps)
        outcome = ACTIONS[order["action"]](order)
        sys.settrace(None)
        os.write(says, json.dumps({"steps": steps.count, "effects": steps.effects, "outcome": outcome}).encode())
        code = 0
    finally:
        if code:
            sys.excepthook(*sys.exc_info())
        os._exit(code)


def obey(order: dict[str, Any]) -> None:
    reads, says = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reads)
        live(order, says)
    os.close(says)
    respond({"pid": pid})
    with os.fdopen(reads) as report:
        said = report.read()
    _, status = os.waitpid(pid, 0)
    respond({"status": os.waitstatus_to_exitcode(status), **json.loads(said or "{}")})


def respond(words: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def warm_up() -> None:
    """Load before the first fork what each fork would load for itself. The database is not used yet."""
    for sink in settings.EVENT_SINKS:
        import_string(sink)
    if connection.vendor == "postgresql":
        import_string("psycopg_pool.ConnectionPool")
    CLIENT.get("/api/v1/runs", headers={"Host": "127.0.0.1"})
    gc.freeze()


if __name__ == "__main__":
    warm_up()
    for line in sys.stdin:
        obey(json.loads(line))
