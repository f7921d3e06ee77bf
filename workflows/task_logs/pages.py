"""What readers of a log ask for, and what they get."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from rest.errors import InvalidInputError
from rest.times import iso
from workflows.airflow.types import LogLine

LARGEST_PAGE = 10_000


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """How far a reader has read: the attempt, and the number of its lines."""

    try_number: int
    lines: int

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(json.dumps([self.try_number, self.lines]).encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Self:
        try:
            read = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except ValueError:
            read = None
        match read:
            case [int(try_number), int(lines)] if try_number >= 0 and lines >= 0:
                return cls(try_number=try_number, lines=lines)
        raise InvalidInputError({"cursor": ["Expected the cursor of an earlier answer."]})


@dataclass(frozen=True, kw_only=True)
class LogQuery:
    """What a reader asks for; without `cursor` and `try_number`, the newest attempt from its first line."""

    task_id: str
    map_index: int = -1
    try_number: int | None = None
    cursor: Cursor | None = None
    tail: int | None = None
    limit: int = 1000


@dataclass(frozen=True, kw_only=True)
class LogPage:
    """Lines of a log, and the cursor after them.

    `has_more`: more lines can be read at once. `ended`: the log is complete, the process that wrote it is gone.
    """

    lines: Sequence[LogLine]
    cursor: Cursor
    has_more: bool
    ended: bool
    task_id: str
    map_index: int
    state: str | None

    def as_json(self) -> dict[str, Any]:
        return {
            "task_id": self.task_id,
            "map_index": self.map_index,
            "try_number": self.cursor.try_number,
            "state": self.state,
            "lines": [_as_json(line) for line in self.lines],
            "cursor": str(self.cursor),
            "has_more": self.has_more,
            "ended": self.ended,
        }


def _as_json(line: LogLine) -> dict[str, Any]:
    return {
        "timestamp": iso(line.timestamp) if line.timestamp else None,
        "level": line.level,
        "text": line.text,
        "is_cut": line.is_cut,
    }


@dataclass(frozen=True, kw_only=True)
class Preparing:
    """Airflow has not sent what was asked for yet. It reads and parses all of a log before it sends the first byte."""

    task_id: str
    map_index: int
    try_number: int
    state: str | None
    waited_s: float

    @property
    def retry_after(self) -> int:
        """Return the seconds to wait before the same request is worth repeating."""
        return min(max(1, round(self.waited_s / 4)), 10)

    def as_json(self) -> dict[str, Any]:
        return {
            "code": "preparing",
            "detail": "Airflow is still preparing this log.",
            "task_id": self.task_id,
            "map_index": self.map_index,
            "try_number": self.try_number,
            "state": self.state,
            "waited_s": round(self.waited_s, 1),
        }
