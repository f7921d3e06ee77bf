"""Medians and spreads of what was measured, and the table that shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from benchmarks.table.row import CPU, QUERIES, REQUESTS, TIME, Goal, Row

Figures = Mapping[str, float]


@dataclass
class Measured:
    """The rounds of one row. Both sides of a round were measured right after each other."""

    row: Row
    subject: list[Figures] = field(default_factory=list)
    peer: list[Figures] = field(default_factory=list)
    error: str = ""

    def of(self, goal: Goal) -> float | None:
        """Return what the goal limits; None if it was not measured."""
        return self.ratio(goal.figure) if goal.ratio else middle(self.subject, goal.figure)

    def ratio(self, figure: str) -> float | None:
        """Return the median of the ratios of the rounds: both sides of a round had the same machine."""
        ratios = self.ratios(figure)
        return median(ratios) if ratios else None

    def ratios(self, figure: str) -> list[float]:
        pairs = zip(self.subject, self.peer, strict=False)
        return [ours[figure] / theirs[figure] for ours, theirs in pairs if theirs.get(figure)]

    def as_json(self) -> dict[str, Any]:
        names = (TIME, CPU, QUERIES, REQUESTS)
        return {
            "row": self.row.name,
            "unit": self.row.unit,
            "rounds": len(self.subject),
            "beside": self.row.beside,
            "subject": {name: _summary(self.subject, name) for name in names},
            "peer": {name: _summary(self.peer, name) for name in names},
            "ratio": _spread(self.ratios(TIME)),
            "goals": [
                {"goal": str(goal), "value": _rounded(self.of(goal)), "met": self.meets(goal)}
                for goal in self.row.goals
            ],
            "error": self.error,
        }

    def meets(self, goal: Goal) -> bool | None:
        value = self.of(goal)
        return None if value is None else goal.is_met_by(value)


def middle(rounds: Sequence[Figures], figure: str) -> float | None:
    values = [figures[figure] for figures in rounds if figure in figures]
    return median(values) if values else None


def _summary(rounds: Sequence[Figures], name: str) -> Any:
    values = [figures[name] for figures in rounds if name in figures]
    return _spread(values) if name in {TIME, CPU} else _rounded(median(values) if values else None)


def _spread(values: Sequence[float]) -> dict[str, float | None] | None:
    if not values:
        return None
    return {"median": _rounded(median(values)), "least": _rounded(min(values)), "most": _rounded(max(values))}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def markdown(measured: Iterable[Measured], before: Mapping[str, Any]) -> str:
    """Return the table. `before` has the rows of the committed figures by name."""
    head = ["work", "figure", "peer", "ratio (least to most)", "CPU ms", "queries", "requests", "goals", "committed"]
    lines = [head, ["---"] + ["--:"] * 6 + ["---", "--:"]]
    lines += [_line(one, before.get(one.row.name)) for one in measured]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _line(one: Measured, before: Mapping[str, Any] | None) -> list[str]:
    if one.error:
        return [one.row.name, f"FAILED: {one.error}", *[""] * 7]
    ratios = one.ratios(TIME)
    spread = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
    peer = middle(one.peer, TIME)
    return [
        one.row.name,
        f"{shown(middle(one.subject, TIME))} {one.row.unit}",
        f"{shown(peer)} {one.row.unit}, {one.row.beside}" if peer is not None else "",
        spread,
        shown(middle(one.subject, CPU)),
        shown(middle(one.subject, QUERIES)),
        shown(middle(one.subject, REQUESTS)),
        "; ".join(_verdict(one, goal) for goal in one.row.goals),
        shown((before or {}).get("ratio") and before["ratio"]["median"]) if before else "",
    ]


def _verdict(one: Measured, goal: Goal) -> str:
    value, is_met = one.of(goal), one.meets(goal)
    if not goal.ratio and goal.figure == TIME:
        goal = replace(goal, figure=one.row.unit)
    if is_met is None:
        return f"{goal}: not measured"
    return f"{goal}: {'yes' if is_met else 'NO'}, {shown(value)}"


def shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
