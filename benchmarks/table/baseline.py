"""The committed figures, `benchmarks/baseline.json`: the counts that the gate compares with, and a full table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.table.row import ROWS_READ

FILE = Path(__file__).resolve().parent.parent / "baseline.json"
# A time or an id may be written with a digit more or less.
BYTES_MAY_GROW = 1.02
# PostgreSQL plans by statistics of a random sample.
ROWS_MAY_GROW = 1.25

Counts = Mapping[str, Mapping[str, float]]


class BaselineError(Exception):
    """The file is missing or is not a baseline. The message says what was expected."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A count that is no longer the committed one."""

    row: str
    count: str
    was: float
    now: float

    @property
    def is_growth(self) -> bool:
        return self.now > self.was * _may_grow(self.count)

    def __str__(self) -> str:
        return f"{self.row}: {self.count} {'grew' if self.is_growth else 'fell'} from {self.was:g} to {self.now:g}"


def _may_grow(count: str) -> float:
    if count == ROWS_READ:
        return ROWS_MAY_GROW
    return BYTES_MAY_GROW if "bytes" in count else 1


def read(file: Path = FILE) -> dict[str, Any]:
    """Return the baseline: `counts`, by row and by name, and `table`, a list of rows. Raises `BaselineError`."""
    try:
        content: dict[str, Any] = json.loads(file.read_text())
    except FileNotFoundError as exc:
        raise BaselineError(f"{file} is missing: make it with `make bench ARGS='--counts --renew'`") from exc
    except ValueError as exc:
        raise BaselineError(f"{file} is not JSON: {exc}") from exc
    counts = content.get("counts") if isinstance(content, dict) else None
    if not isinstance(counts, dict) or not all(_is_counts(row) for row in counts.values()):
        raise BaselineError(f"{file}: expected `counts` to have an object of numbers for each row")
    if not isinstance(content.get("table", []), list):
        raise BaselineError(f"{file}: expected `table` to be a list")
    return content


def _is_counts(row: object) -> bool:
    return isinstance(row, dict) and all(isinstance(number, int | float) for number in row.values())


def renew(file: Path = FILE, **parts: Any) -> None:
    """Replace `counts` or `table`, and keep the other part."""
    try:
        content = read(file)
    except BaselineError:
        content = {"counts": {}, "table": []}
    file.write_text(json.dumps(content | parts, indent=1, sort_keys=True) + "\n")


def changes(was: Counts, now: Counts) -> Iterator[Change]:
    """Yield the counts that differ. A row or a count that is new counts as grown from nothing."""
    for row, counts in now.items():
        committed = was.get(row, {})
        for name, number in counts.items():
            if number != committed.get(name, 0):
                yield Change(row=row, count=name, was=committed.get(name, 0), now=number)


def missing(was: Counts, now: Counts) -> list[str]:
    """Return the committed rows that were not counted any more."""
    return sorted(was.keys() - now.keys())
