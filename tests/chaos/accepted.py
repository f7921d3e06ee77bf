"""What the clients have done that the verdict has to know: accepted triggers, and changes in Airflow itself."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Kind = Literal["clear", "mark", "mark task", "delete", "answer"]


NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass
class Change:
    """Something that a person did to a run in Airflow itself. Whether it was done is not known if no answer came."""

    dag_run_id: str
    kind: Kind
    sent: datetime
    task_id: str = ""
    answered: datetime = NEVER


class Accepted:
    """Shared by the clients. `runs` are the accepted triggers by run id."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        # Labels that were sent. A request without an answer may have been accepted or not.
        self.sent: set[str] = set()
        self._changes: list[Change] = []
        self._lock = threading.Lock()

    def send(self, label: str) -> None:
        with self._lock:
            self.sent.add(label)

    def add(self, run: dict[str, Any]) -> None:
        with self._lock:
            self.runs[run["id"]] = run

    @contextmanager
    def change(self, dag_run_id: str, kind: Kind, task_id: str = "") -> Iterator[None]:
        """Note a change in Airflow, which is sent in the block."""
        change = Change(dag_run_id, kind, datetime.now(UTC), task_id)
        with self._lock:
            self._changes.append(change)
        yield
        change.answered = datetime.now(UTC)

    def changes(self, dag_run_id: str, *kinds: Kind) -> list[Change]:
        return [one for one in self._changes if one.dag_run_id == dag_run_id and one.kind in kinds]

    def some(self, rng: random.Random) -> dict[str, Any] | None:
        with self._lock:
            recent = list(self.runs.values())[-12:]
        return rng.choice(recent) if recent else None
