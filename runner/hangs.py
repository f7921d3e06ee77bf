"""When a process that lives but does not work any more, because it is frozen or waits for ever, is started again."""

from __future__ import annotations

import threading
import time

from runner.part import Check
from runner.process import Process

# Seconds between two checks of one process.
INTERVAL = 10.0


class Hangs:
    """Decides from the checks of one process whether it hangs: every check of `check.deadline` seconds has failed.

    A start has `start` seconds, if that is longer. One good check forgets all failed ones before it.
    """

    def __init__(self, check: Check, *, start: float) -> None:
        self._check = check
        self._start = max(start, check.deadline)
        self._worked = False
        self._wrong_since: float | None = None

    def begin(self) -> None:
        """Forget the process before: a new one starts."""
        self._worked = False
        self._wrong_since = None

    def after(self, wrong: str, *, asked: float, now: float) -> str:
        """Return why the process hangs, or "". `wrong` is what the check returned that began at `asked`."""
        if not wrong:
            self._worked, self._wrong_since = True, None
            return ""
        if self._wrong_since is None:
            self._wrong_since = asked
        silent = now - self._wrong_since
        return f"{wrong}, for {silent:.0f} s" if silent >= self._allowed else ""

    @property
    def worked(self) -> bool:
        """Whether a check of this process was good."""
        return self._worked

    @property
    def _allowed(self) -> float:
        return self._check.deadline if self._worked else self._start


def watch(process: Process, check: Check, *, start: float, stop: threading.Event) -> None:
    """Check the process until `stop`, and restart it each time it hangs. A held process has not begun to work."""
    hangs = Hangs(check, start=start)
    child = process.child
    while not stop.wait(min(INTERVAL, check.deadline / 4)):
        if child != process.child or process.is_held:
            child = process.child
            hangs.begin()
            continue
        asked = time.monotonic()
        why = hangs.after(check.wrong(), asked=asked, now=time.monotonic())
        if why and child is not None:
            process.restart(child, why=why, worked=hangs.worked)
