"""What a row of the table is: a piece of work, its peer, and the figures that it has to meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.table.stage import Stage

# What is measured. A work may return a figure of its own, which then takes the place of its time.
Work = Callable[[], float | None]
# Prepares the work; this is not measured. It is called before each measurement.
Prepare = Callable[["Stage"], Work]

# How much a run of the table does.
WHOLE, QUICK, COUNTING = "whole", "quick", "counting"
TIME, CPU, QUERIES, REQUESTS, BYTES, ROWS_READ = "time", "cpu", "queries", "requests", "bytes", "rows read"
COUNTED = (QUERIES, REQUESTS, BYTES, ROWS_READ)


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A figure of a row, per operation, or its ratio to the peer's, and the limit on one side."""

    figure: str = TIME
    ratio: bool = False
    at_most: float | None = None
    at_least: float | None = None

    def is_met_by(self, value: float) -> bool:
        if self.at_most is not None:
            return value <= self.at_most
        return self.at_least is not None and value >= self.at_least

    def __str__(self) -> str:
        sign, limit = ("≤", self.at_most) if self.at_most is not None else ("≥", self.at_least)
        return f"{self.figure} {sign} {limit:g}{' of the peer' if self.ratio else ''}"


def ratio(figure: str = TIME, *, at_most: float | None = None, at_least: float | None = None) -> Goal:
    """Return a goal for the figure of the subject divided by the one of the peer."""
    return Goal(figure=figure, ratio=True, at_most=at_most, at_least=at_least)


def at_most(limit: float, figure: str) -> Goal:
    """Return a goal for a figure of the subject. Times are in milliseconds."""
    return Goal(figure=figure, at_most=limit)


def at_least(limit: float, figure: str) -> Goal:
    return Goal(figure=figure, at_least=limit)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table.

    Without a `peer`, the peer is the subject itself on the small database. A work does `stage.many` operations, which
    is `many`, or `counted` for the gate; each figure is divided by it, but not one that the work returns, which is in
    `unit`. Only rows with `counts` belong to the gate: what they count is the same in each run. A full run measures
    the row at most `rounds` times. `seen` is what it was when the goals were set.
    """

    name: str
    goals: tuple[Goal, ...]
    subject: Prepare
    peer: Prepare | None = None
    peer_name: str = ""
    many: int = 1
    counted: int = 1
    unit: str = "ms"
    counts: bool = True
    rounds: int = 9
    seen: str = ""

    @property
    def is_against_small_data(self) -> bool:
        return self.peer is None

    @property
    def beside(self) -> str:
        return self.peer_name or "the same with little data"
