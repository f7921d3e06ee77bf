"""`python -m tests.live.recorders`: processes that record events, all at once, and die where an order says.

An order is a line of JSON: `runs`, one for each process, `times` and `size` of the batches that each records, and
`dies_at`, the step at which the first process kills itself. A step is a line of the log's own code that is executed for
the first time. The answer is a line of JSON: the exit code and the number of steps of each process.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "svops.settings"
django.setup()

from django.conf import settings  # noqa: E402 - after the set-up
from django.db import connection, transaction  # noqa: E402
from django.utils import timezone  # noqa: E402
from django.utils.module_loading import import_string  # noqa: E402

from workflows import eventlog  # noqa: E402
from workflows.eventlog import events  # noqa: E402
from workflows.eventlog.events import Entry, TaskStarted  # noqa: E402
from workflows.models import Run  # noqa: E402

OURS = Path(eventlog.__file__).parent


class Steps:
    """A trace function that counts the steps, and kills the process before a given one."""

    def __init__(self, dies_at: int) -> None:
        self._seen: set[tuple[str, int]] = set()
        self._dies_at = dies_at

    @property
    def count(self) -> int:
        return len(self._seen)

    def __call__(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        return self._step if Path(frame.f_code.co_filename).parent == OURS else None

    def _step(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any]:
        line = (frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and line not in self._seen:
            self._seen.add(line)
            if self.count == self._dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return self._step


def record(run_id: str, *, times: int, size: int, steps: Steps) -> None:
    run = Run.objects.get(pk=run_id)
    data = TaskStarted(state="running", map_index=-1, try_number=1)
    sys.settrace(steps)
    for _ in range(times):
        with transaction.atomic():
            events.record_all(Entry(data=data, now=timezone.now(), run=run, task_id="work") for _ in range(size))
    sys.settrace(None)


def obey(order: dict[str, Any]) -> list[list[int]]:
    """Fork a process for each run, let them begin together, and return how each ended, after how many steps."""
    begin, may_begin = os.pipe()
    begun = []
    for number, run_id in enumerate(order["runs"]):
        reads, says = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(may_begin)
            os.read(begin, 1)
            steps = Steps(order["dies_at"] if number == 0 else 0)
            code = 1
            try:
                record(run_id, times=order["times"], size=order["size"], steps=steps)
                code = 0
            finally:
                if code:
                    sys.excepthook(*sys.exc_info())
                os.write(says, b"%d" % steps.count)
                os._exit(code)
        os.close(says)
        begun.append((pid, reads))
    os.close(begin)
    os.close(may_begin)
    return [_end_of(pid, reads) for pid, reads in begun]


def _end_of(pid: int, reads: int) -> list[int]:
    with os.fdopen(reads) as report:
        steps = report.read()
    _, status = os.waitpid(pid, 0)
    return [os.waitstatus_to_exitcode(status), int(steps or 0)]


if __name__ == "__main__":
    for sink in settings.EVENT_SINKS:
        import_string(sink)
    if connection.vendor == "postgresql":
        import_string("psycopg_pool.ConnectionPool")
    gc.freeze()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(obey(json.loads(line))) + "\n")
        sys.stdout.flush()
