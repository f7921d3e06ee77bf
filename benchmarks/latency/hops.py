"""Joins the times that Airflow's plugin, SVOps and the client wrote for the same event, and reports the hops."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import quantiles
from typing import Any

# The state in Airflow that an event reports, and the field with its time in the plugin's record. Airflow calls the hook
# for the end of a task before it knows the time of that end.
REPORTED = {
    "workflow.started": ("running", "start_date"),
    "workflow.completed": ("success", "end_date"),
    "task.started": ("running", "start_date"),
    "task.completed": ("success", None),
}


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The way of one event, in seconds since the epoch. `changed` is None if Airflow does not report it."""

    type: str
    changed: float | None
    hook: float
    received: float
    committed: float
    published: float
    framed: float


HOPS: list[tuple[str, Callable[[Trace], float | None]]] = [
    ("state change → hook", lambda t: t.changed and t.hook - t.changed),
    ("hook → POST received", lambda t: t.received - t.hook),
    ("POST received → committed", lambda t: t.committed - t.received),
    ("committed → published", lambda t: t.published - t.committed),
    ("published → client's frame", lambda t: t.framed - t.published),
    ("**hook → client's frame**", lambda t: t.framed - t.hook),
    (
        "**run's state change → client's frame**",
        lambda t: t.framed - t.changed if t.changed and t.type.startswith("workflow.") else None,
    ),
]


def traces(
    marks: Path, frames: Iterable[tuple[float, dict[str, Any]]], runs: dict[str, str]
) -> tuple[list[Trace], int]:
    """Return the events that came by push, and the number of the others. `runs` maps run ids to dag_run_ids."""
    pushed, published = _read(marks)
    found, otherwise = [], 0
    for framed, event in frames:
        if event["type"] not in REPORTED or event["run_id"] not in runs:
            continue
        state, field = REPORTED[event["type"]]
        push = pushed.get((runs[event["run_id"]], event["task_id"], state))
        committed, at = published[event["id"]]
        # An event that was committed before its push arrived came from a poll of Airflow.
        if push is None or push[0] > committed:
            otherwise += 1
            continue
        received, record = push
        found.append(
            Trace(
                type=event["type"],
                changed=_seconds(record[field]) if field else None,
                hook=_seconds(record["at"]),
                received=received,
                committed=committed,
                published=at,
                framed=framed,
            )
        )
    return found, otherwise


def _read(marks: Path) -> tuple[dict[Any, tuple[float, dict[str, Any]]], dict[int, tuple[float, float]]]:
    pushed: dict[Any, tuple[float, dict[str, Any]]] = {}
    published: dict[int, tuple[float, float]] = {}
    for line in marks.read_text().splitlines():
        mark = json.loads(line)
        for record in mark.get("records", []):
            key = (record["dag_run_id"], record.get("task_id"), record["state"])
            pushed.setdefault(key, (mark["received"], record))
        for position in mark.get("ids", []):
            published[position] = (mark["committed"], mark["published"])
    return pushed, published


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def markdown(found: Sequence[Trace], *, otherwise: int) -> str:
    summary = f"{len(found)} events came by push, {otherwise} were found first by a poll of Airflow."
    rows = [(name, [value for trace in found if (value := hop(trace)) is not None]) for name, hop in HOPS]
    types = [(name, [trace for trace in found if trace.type == name]) for name in REPORTED]
    whole = [(f"hook → frame, {name}", [t.framed - t.hook for t in traces]) for name, traces in types]
    inside = [
        (f"POST received → committed, {name}", [t.committed - t.received for t in traces]) for name, traces in types
    ]
    return "\n\n".join([_table("hop", rows), _table("by event", whole + inside), summary])


def _table(head: str, rows: Iterable[tuple[str, list[float]]]) -> str:
    lines = [f"| {head} | events | p50, ms | p95, ms |", "| --- | --: | --: | --: |"]
    for name, values in rows:
        if len(values) > 1:
            cuts = quantiles(values, n=20, method="inclusive")
            lines.append(f"| {name} | {len(values)} | {cuts[9] * 1000:.1f} | {cuts[18] * 1000:.1f} |")
    return "\n".join(lines)
