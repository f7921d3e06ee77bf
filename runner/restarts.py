"""When a process that ended is started again, and when it cannot live."""

from __future__ import annotations

import signal
from dataclasses import dataclass

# Seconds before each restart; a process that ends once more after the last of them cannot live.
DELAYS = (1.0, 2.0, 4.0, 8.0, 15.0)
# A part that has never been ready has a wrong setting more often than bad luck: its user waits for the reason.
RESTARTS_AT_START = 2
# Seconds. A process that ran this long starts with a clean record when it ends.
STEADY = 60.0
# What the shell says of a command that is not there or cannot be executed. Another try changes nothing.
NO_COMMAND = (126, 127)
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


@dataclass(frozen=True, kw_only=True)
class Death:
    """The end of a process that nobody asked for. `wait` is the seconds until it starts again; None: it cannot live."""

    name: str
    code: int
    ran: float
    # How many deaths in a row this is, and how many restarts it has in a row.
    count: int
    limit: int
    wait: float | None
    # What was wrong with a process that lived but did not work, so that we killed it.
    hung: str = ""

    @property
    def how(self) -> str:
        if self.hung:
            return f"hung ({self.hung}) and was killed"
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        name = signal.Signals(-self.code).name
        cause = " (by hand, or by the system when memory ran out)" if name == "SIGKILL" else ""
        return f"was killed by {name}{cause}"

    @property
    def again(self) -> str:
        """One line about a death that a restart follows."""
        restart = f"it starts again in {self.wait:g} s (restart {self.count} of {self.limit})"
        return f"{self.name} {self.how} after {self.ran:.0f} s; {restart}"

    @property
    def final(self) -> str:
        """One sentence about a process that cannot live."""
        times = f" for the {ORDINALS[self.count - 1]} time in a row" if self.count > 1 else ""
        return f"{self.name} {self.how}{times}, so everything else was stopped."


class Restarts:
    """Counts the deaths of one process."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0

    def after(self, *, code: int, ran: float, was_ready: bool, hung: str = "", worked: bool = True) -> Death:
        """Decide what follows when the process has ended with `code` after `ran` seconds.

        `hung` says what was wrong with one that we killed, `worked` whether it had worked before.
        """
        if ran >= STEADY and worked:
            self._count = 0
        self._count += 1
        limit = len(DELAYS) if was_ready else RESTARTS_AT_START
        lives = self._count <= limit and code not in NO_COMMAND
        wait = DELAYS[self._count - 1] if lives else None
        return Death(name=self._name, code=code, ran=ran, count=self._count, limit=limit, wait=wait, hung=hung)
