"""The rows of `make bench`, in groups. A new row is a `Row` in the list of its module."""

from __future__ import annotations

from benchmarks.rows import console, dispatch, lists, log, polls, pushes, trigger
from benchmarks.table.row import Row

ROWS: tuple[Row, ...] = (
    *lists.ROWS,
    *console.ROWS,
    *trigger.ROWS,
    *dispatch.ROWS,
    *polls.ROWS,
    *pushes.ROWS,
    *log.ROWS,
)


def named(name: str) -> Row:
    return next(row for row in ROWS if row.name == name)
