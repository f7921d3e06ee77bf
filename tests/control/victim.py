"""`python -m tests.control.victim`: carries out orders given as JSON lines, each in a fork of itself, which kills
itself at the step that the order names. A step is a line of ours, or of Django's transactions, about to be run.

Answers each order with two JSON lines: the pid of the fork once it exists, and how it ended.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
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
from django.utils import timezone  # noqa: E402
from rest_framework.test import APIClient  # noqa: E402

from workflows import handover, upstream  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
CLIENT = APIClient()


@cache
def is_ours(filename: str) -> bool:
    path = Path(filename)
    if not path.is_relative_to(ROOT / "workflows"):
        return filename.endswith("django/db/transaction.py")
    return "tests" not in path.parts


class Steps:
    """A trace function that counts steps and ends the process with SIGKILL before the one it is told."""

    def __init__(self, dies_at: int, says: int) -> None:
        self.count = 0
        self._dies_at = dies_at
        self._says = says

    def __call__(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
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
    """What the beat task does."""
    return handover.carry_out_due(now=timezone.now())


def circuit(order: dict[str, Any]) -> Any:
    """Whether the circuit of this process lets calls through."""
    return upstream.is_closed()


ACTIONS = {action.__name__: action for action in (request, dispatch, circuit)}


def live(order: dict[str, Any], says: int) -> NoReturn:
    """Carry out the order and leave, unless its step comes first."""
    steps = Steps(order["dies_at"], says)
    code = 1
    try:
        sys.settrace(steps)
        outcome = ACTIONS[order["action"]](order)
        sys.settrace(None)
        os.write(says, json.dumps({"steps": steps.count, "outcome": outcome}).encode())
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
    tell({"pid": pid})
    with os.fdopen(reads) as report:
        said = report.read()
    _, status = os.waitpid(pid, 0)
    tell({"status": os.waitstatus_to_exitcode(status), **json.loads(said or "{}")})


def tell(words: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def warm_up() -> None:
    """Load before the first fork what each would load for itself; the database is not asked yet."""
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
