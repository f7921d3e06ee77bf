"""What was done and what was answered: the clients' requests and the faults, with their times."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

# A request that fails this long after a fault may still fail because of it: leases, breaker, reconnections.
AFTERMATH = 20.0
# What a 5xx may be due to. SVOps answers 503 while something that it needs does not answer, and never 500: only a
# database that goes away in the middle of a request is an error that nothing foresees.
# Of the Airflows, only the one that the request concerns.
OF_AIRFLOW = ("{}-api", "{}-postgres", "to {}")
CAUSES = {
    500: ("postgres",),
    502: ("postgres", *OF_AIRFLOW),
    503: ("postgres", "redis", *OF_AIRFLOW),
    504: ("postgres", *OF_AIRFLOW),
}
# What an outage of an Airflow that SVOps records may be due to: a call also ends when who waits for it was frozen.
OUTAGE = (*OF_AIRFLOW, "web", "worker")
AIRFLOW = "airflow"  # the prefix of the processes and wires of the default one
CONTROL = re.compile(r"^POST \S+/control .*'action': '(\w+)'(?:, 'mode': '(\w+)')?")


@dataclass
class Fault:
    """Something that is broken from `began` to `ended` (monotonic seconds): on purpose (`injected`), or by itself."""

    kind: str
    target: str
    began: float
    injected: bool = True
    ended: float = float("inf")

    def explains(self, moment: float, causes: Iterable[str], airflow: str) -> bool:
        """Return whether it is one of these causes, at that moment, of what concerns this Airflow."""
        targets = {cause.format(airflow) for cause in causes}
        return self.target in targets and self.began - 1 <= moment <= self.ended + AFTERMATH


@dataclass(frozen=True)
class Entry:
    """One request of a client and its answer; `status` is 0 when there was none. It concerns only that Airflow."""

    begun: float
    moment: float
    at: datetime
    actor: str
    what: str
    run_id: str
    status: int
    detail: Any = None
    airflow: str = AIRFLOW

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
        airflow: str = AIRFLOW,
    ) -> None:
        now = time.monotonic()
        entry = Entry(
            now if begun is None else begun, now, datetime.now(UTC), actor, what, run_id, status, detail, airflow
        )
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
        causes, moments = CAUSES.get(entry.status, ()), (entry.begun, entry.moment)
        return any(fault.explains(moment, causes, entry.airflow) for fault in self.faults for moment in moments)

    def explains_outage(self, at: datetime, airflow: str) -> bool:
        """Return whether a fault explains that SVOps has recorded an outage of this Airflow then."""
        moment = time.monotonic() - (datetime.now(UTC) - at).total_seconds()
        return any(fault.explains(moment, OUTAGE, airflow) for fault in self.faults)

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
