"""The envelope that every event comes in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event of the log. A type that this version does not know is of this class, with `data` as it came.

    `id` is the cursor: it grows in the order in which events become visible. `seq` counts within a run. `raw` is the
    whole envelope as it came.
    """

    id: int
    seq: int | None
    type: str
    workflow_id: int | None
    run_id: str | None
    task_id: str | None
    user_id: int | None
    timestamp: datetime
    data: Any
    raw: Mapping[str, Any] = field(init=False, repr=False, compare=False, default_factory=dict)

    @property
    def task(self) -> str:
        """`task_id`, or `task_id[map_index]` for an instance of a mapped task; empty for an event of no task."""
        index = self.raw.get("data", {}).get("map_index", -1)
        return f"{self.task_id}[{index}]" if index >= 0 else self.task_id or ""
