"""What Airflow itself writes into the log of a task: where it was found, and whether the task's process is gone.

Airflow marks a task that is stopped from outside at once, while its process lives on for seconds, so the state says
nothing. The supervisor is the process's parent, and tells of its end only after it has waited for it.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from .types import LogLine

HEADER = "::group::Log message source details"


@dataclass(frozen=True, kw_only=True)
class LogEnd:
    """How a log ends so far: whether the process that wrote it is gone, and when it was last heard of."""

    is_over: bool
    last_at: datetime | None


class Ending(Protocol):
    """Takes the lines of a log one after the other, from the first; `is_over` holds for what came so far."""

    is_over: bool

    def see(self, line: LogLine) -> None: ...


class Ending3:
    """Airflow 3. A regular end is told since 3.3 only, by the process itself as the last thing that it does."""

    def __init__(self) -> None:
        self.is_over = False
        self._finishing = False

    def see(self, line: LogLine) -> None:
        # What the task itself prints or logs comes from other loggers.
        if line.source != "task":
            return
        match line.text:
            case "::group::Pre Execute":
                # A task that had deferred goes on in another process, and in the same log.
                self.is_over = self._finishing = False
            case "::group::Post Execute":
                self._finishing = True
            case "::endgroup::":
                self.is_over = self.is_over or self._finishing
            case text if text.startswith(("Task killed!", "Process terminated by signal", "Process exited abnormally")):
                self.is_over = True


class Ending2:
    """Airflow 2.11."""

    STARTED = re.compile(r"Started process (\d+) to run task")
    TERMINATED = re.compile(r"Process .* \((\d+)\) terminated with exit code .*")

    def __init__(self) -> None:
        self.is_over = False
        self._pid: str | None = None

    def see(self, line: LogLine) -> None:
        match line.source:
            case "standard_task_runner.py" if started := self.STARTED.fullmatch(line.text):
                self.is_over, self._pid = False, started[1]
            case "local_task_job_runner.py":
                over = line.text.startswith(("Task exited with return code", "Task is not able to be run"))
                self.is_over = self.is_over or over
            case "process_utils.py" if ended := self.TERMINATED.fullmatch(line.text):
                # Children of the process are named the same way.
                self.is_over = self.is_over or ended[1] == self._pid


def end_of(lines: Iterable[LogLine], ending: Ending) -> LogEnd:
    """Read a log to its end."""
    last_at = None
    for line in lines:
        ending.see(line)
        last_at = line.timestamp or last_at
    return LogEnd(is_over=ending.is_over, last_at=last_at)


def without_header(lines: Iterable[LogLine]) -> Iterator[LogLine]:
    """The lines of the task's own, without those about where Airflow looked for them: these change as it runs."""
    in_header = False
    for line in lines:
        in_header = in_header or line.text == HEADER
        if not in_header:
            yield line
        elif line.text == "::endgroup::":
            in_header = False
