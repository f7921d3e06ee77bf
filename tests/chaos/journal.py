"""What was done and what was answered: the clients' requests and the faults, with their times."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

# A request that fails this long after a fault may still fail because of it: leases, breaker, reconnections.
AFTERMATH = 20.0
# What a 5xx may be due to. SVOps answers 503 while something that it needs does not answer, and never 500: only a
# database that goes away in the middle of a request is an error that nothing foresees.
CAUSES = {
    500: {"postgres"},
    502: {"postgres", "airflow-api", "airflow-postgres", "to airflow"},
    503: {"postgres", "redis", "airflow-api", "airflow-postgres", "to airflow"},
    504: {"postgres", "airflow-api", "airflow-postgres", "to airflow"},
}
CONTROL = re.compile(r"^POST \S+/control .*'action': '(\w+)'(?:, 'mode': '(\w+)')?")


@dataclass
class Fault:
    """Something that is broken from `began` to `ended` (monotonic seconds): on purpose (`injected`), or by itself."""

    kind: str
    target: str
    began: float
    injected: bool = True
    ended: float = float("inf")

    def explains(self, moment: float, status: int) -> bool:
        return self.target in CAUSES.get(status, set()) and self.began - 1 <= moment <= self.ended + AFTERMATH


@dataclass(frozen=True)
class Entry:
    """One request of a client and its answer; `status` is 0 when there was none."""

    begun: float
    moment: float
    at: datetime
    actor: str
    what: str
    run_id: str
    status: int
    detail: Any = None

    def __str__(self) -> str:
        return f"{self.actor}: {self.what} -> {self.status or 'no answer'} {self.detail or ''}"


@dataclass
class Journal:
    """Shared by all threads."""

    entries: list[Entry] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(
        self,
        actor: str,
        what: str,
        *,
        run_id: str = "",
        status: int = 0,
        detail: Any = None,
        begun: float | None = None,
    ) -> None:
        now = time.monotonic()
        entry = Entry(now if begun is None else begun, now, datetime.now(UTC), actor, what, run_id, status, detail)
        with self._lock:
            self.entries.append(entry)

    @contextmanager
    def fault(self, kind: str, target: str, *, injected: bool = True) -> Iterator[None]:
        """Remember what is broken while the block lasts."""
        fault = Fault(kind, target, time.monotonic(), injected=injected)
        with self._lock:
            self.faults.append(fault)
        self.note("fault", f"{kind} {target}")
        try:
            yield
        finally:
            fault.ended = time.monotonic()
            self.note("fault", f"{kind} {target} has ended")

    def note_slow(self, target: str, why: str, *, begun: float) -> None:
        """Note that a part was slow by itself from `begun` until now."""
        fault = Fault("slow", target, begun, injected=False, ended=time.monotonic())
        with self._lock:
            self.faults.append(fault)
        self.note("fault", f"slow {target}: {why}")

    def injected(self) -> list[Fault]:
        return [fault for fault in self.faults if fault.injected]

    def done(self) -> dict[str, int]:
        """Return how often clients succeeded in each control of a run, and in each change in Airflow itself."""
        count: Counter[str] = Counter()
        for entry in self.entries:
            if entry.status == 200 and (control := CONTROL.search(entry.what)):
                count[" ".join(filter(None, control.groups()))] += 1
            if entry.detail == "done" and not entry.what.startswith("list"):
                count[f"{entry.what.partition(':')[0]} in Airflow"] += 1
        return dict(sorted(count.items()))

    def unexplained(self) -> list[Entry]:
        """Return the answers 5xx that no fault explains, neither when they were asked for nor when they came."""
        failed = [entry for entry in self.entries if entry.status >= 500]
        return [entry for entry in failed if not self._is_explained(entry)]

    def _is_explained(self, entry: Entry) -> bool:
        moments = (entry.begun, entry.moment)
        return any(fault.explains(moment, entry.status) for fault in self.faults for moment in moments)

    def story(self, run_id: str) -> list[tuple[datetime, str]]:
        """Return what clients did to a run, and the faults meanwhile."""
        mine = [entry for entry in self.entries if entry.run_id == run_id]
        if not mine:
            return []
        first, last = mine[0].moment - 10, mine[-1].moment + 60
        return [
            (entry.at, str(entry))
            for entry in self.entries
            if entry.run_id == run_id or (entry.actor in {"fault", "stand"} and first <= entry.moment <= last)
        ]
