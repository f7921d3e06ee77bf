"""What Airflow itself writes into the log of a task: where it found the log, and whether the task's process has ended.

Airflow marks a task that is stopped from outside at once, while its process goes on for seconds. So the state proves
nothing. The supervisor is the parent of the process, and logs its end only after it has waited for it.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from .types import LogLine

HEADER = "::group::Log message source details"


@dataclass(frozen=True, kw_only=True)
class LogEnd:
    """How a log ends so far: whether the process that wrote it has ended, and when it last wrote."""

    has_ended: bool
    last_at: datetime | None


class Ending(Protocol):
    """A reader that gets the lines of a log one after the other. `has_ended` is about the lines so far."""

    has_ended: bool

    def see(self, line: LogLine) -> None: ...


class Ending3:
    """Airflow 3. Only since 3.3 does the process log a regular end itself, as the last thing it does."""

    def __init__(self) -> None:
        self.has_ended = False
        self._finishing = False

    def see(self, line: LogLine) -> None:
        # Lines that the task itself prints or logs come from other loggers.
        if line.source != "task":
            return
        match line.text:
            case "::group::Pre Execute":
                # A deferred task continues in another process, and in the same log.
                self.has_ended = self._finishing = False
            case "::group::Post Execute":
                self._finishing = True
            case "::endgroup::":
                self.has_ended = self.has_ended or self._finishing
            case text if text.startswith(("Task killed!", "Process terminated by signal", "Process exited abnormally")):
                self.has_ended = True


class Ending2:
    """Airflow 2.11."""

    STARTED = re.compile(r"Started process (\d+) to run task")
    TERMINATED = re.compile(r"Process .* \((\d+)\) terminated with exit code .*")

    def __init__(self) -> None:
        self.has_ended = False
        self._pid: str | None = None

    def see(self, line: LogLine) -> None:
        match line.source:
            case "standard_task_runner.py" if started := self.STARTED.fullmatch(line.text):
                self.has_ended, self._pid = False, started[1]
            case "local_task_job_runner.py":
                ends = line.text.startswith(("Task exited with return code", "Task is not able to be run"))
                self.has_ended = self.has_ended or ends
            case "process_utils.py" if ended := self.TERMINATED.fullmatch(line.text):
                # Children of the process are named the same way.
                self.has_ended = self.has_ended or ended[1] == self._pid


def end_of(lines: Iterable[LogLine], ending: Ending) -> LogEnd:
    """Read a log to its end."""
    last_at = None
    for line in lines:
        ending.see(line)
        last_at = line.timestamp or last_at
    return LogEnd(has_ended=ending.has_ended, last_at=last_at)


def without_header(lines: Iterable[LogLine]) -> Iterator[LogLine]:
    """Yield the task's own lines, without those about where Airflow found them, which change while it runs."""
    in_header = False
    for line in lines:
        in_header = in_header or line.text == HEADER
        if not in_header:
            yield line
        elif line.text == "::endgroup::":
            in_header = False


def cut(line: LogLine, *, size: int) -> LogLine:
    """Return a line that was longer than what was read of it, with a text that says so."""
    return replace(line, text=f"{line.text}… [cut: the line has {size:,} bytes]", is_cut=True)
