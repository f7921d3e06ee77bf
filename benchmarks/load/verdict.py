"""What a load has reached, and whether the promise held: all accepted, all told, nothing late by more than a second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.load.watchers import BUCKET

LATE = 1.0  # seconds
EXTERNAL = "workflow.external_change"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How long something took, in seconds, and how often it took longer than `LATE`."""

    count: int
    p50: float
    p95: float
    most: float
    late: int


def spread(buckets: Mapping[int, int]) -> Spread:
    """Return the spread of counted times. The keys are in buckets of `BUCKET` seconds."""
    ordered, total = sorted(buckets.items()), sum(buckets.values())
    late = sum(count for bucket, count in ordered if bucket * BUCKET > LATE)
    most = ordered[-1][0] * BUCKET if ordered else 0.0
    return Spread(count=total, p50=_at(ordered, total * 0.5), p95=_at(ordered, total * 0.95), most=most, late=late)


def _at(ordered: Sequence[tuple[int, int]], rank: float) -> float:
    seen = 0
    for bucket, count in ordered:
        seen += count
        if seen >= rank:
            return bucket * BUCKET
    return 0.0


def of_times(seconds: Sequence[float]) -> Spread:
    return spread(Counter(max(0, int(time / BUCKET)) for time in seconds))


@dataclass(frozen=True, kw_only=True)
class Reached:
    """The counts of one load. `ended` counts by run how many sockets saw its end; `watchers` says how many should."""

    offered: int
    seconds: float
    answers: Sequence[float]
    accepted: Mapping[str, float]
    refused: Mapping[str, int]
    arrived: Mapping[str, float]
    late: Mapping[str, Mapping[int, int]]
    ended: Mapping[str, int]
    closed: Mapping[str, int]
    watchers: int

    def spreads(self) -> dict[str, Spread]:
        until_airflow = [self.arrived[run] - due for run, due in self.accepted.items() if run in self.arrived]
        first = {"trigger → answer": of_times(self.answers), "trigger → Airflow has the run": of_times(until_airflow)}
        return first | {f"{kind} → frame": spread(counts) for kind, counts in sorted(self.late.items())}

    def problems(self) -> Iterator[str]:
        """Yield each way in which the promise did not hold."""
        if len(self.accepted) < self.offered:
            reasons = ", ".join(f"{count} × {reason}" for reason, count in self.refused.items())  # noqa: RUF001
            yield f"{self.offered - len(self.accepted)} of {self.offered} triggers were not accepted ({reasons})"
        if lost := self.accepted.keys() - self.arrived.keys():
            yield f"{len(lost)} accepted runs did not reach Airflow"
        seen = [self.ended.get(run.removeprefix("svops__"), 0) for run in self.accepted]
        if missing := sum(self.watchers - count for count in seen):
            yield f"{missing} of {self.watchers * len(seen)} frames with the end of a run were missed"
        if self.closed:
            yield f"{sum(self.closed.values())} sockets were closed"
        for kind, counts in self.late.items():
            if kind.startswith(EXTERNAL):
                yield f"{sum(counts.values())} frames tell of {kind!r}, and nobody has changed anything in Airflow"
        for name, found in self.spreads().items():
            if found.late:
                yield f"{name}: {found.late} of {found.count} took longer than {LATE:g} s"


def report(reached: Reached) -> str:
    rate, offered = len(reached.accepted) / reached.seconds, reached.offered / reached.seconds
    lines = [f"{rate:.1f} triggers a second were accepted, of {offered:.1f} offered for {reached.seconds:.0f} s.", ""]
    lines += ["| what | count | p50 ms | p95 ms | most ms | late |", "| --- | --: | --: | --: | --: | --: |"]
    for name, found in reached.spreads().items():
        times = " | ".join(f"{value * 1000:,.0f}" for value in (found.p50, found.p95, found.most))
        lines.append(f"| {name} | {found.count:,} | {times} | {found.late:,} |")
    problems = list(reached.problems())
    lines += ["", "The promise held." if not problems else "The promise did NOT hold:"]
    return "\n".join(lines + [f"- {problem}" for problem in problems])


def of_answers(*, triggered: Mapping[str, Any], watched: Mapping[str, Any], **others: Any) -> Reached:
    """Return what the processes have printed, put together."""
    late = {kind: {int(bucket): count for bucket, count in found.items()} for kind, found in watched["late"].items()}
    return Reached(**triggered, late=late, ended=watched["ended"], closed=watched["closed"], **others)
