"""What a retry repeats, by the shape of the graph and by what ended the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from workflows.services.retries import Graph, Instance, Key, Retry
from workflows.tests.stage import at, dag_task

END = 100
"""When the run ended, in seconds after NOW."""


def task(task_id: str, *after: str, **fields: Any) -> dict[str, Any]:
    return dag_task(task_id, *after) | fields


def seen(name: str, state: str, start: float | None = None, end: float | None = None, **fields: Any) -> Instance:
    """Return an instance, named as `task` or `task[2]`."""
    task_id, _, index = name.rstrip("]").partition("[")
    key = Key(task_id, int(index or -1))
    return Instance(key=key, state=state, started_at=_at(start), ended_at=_at(end), **fields)


def _at(seconds: float | None) -> datetime | None:
    return None if seconds is None else at(seconds)


def success(name: str, start: float, end: float) -> Instance:
    return seen(name, "success", start, end)


def failed(name: str, start: float = 10, end: float = 20) -> Instance:
    return seen(name, "failed", start, end)


def skipped(name: str, when: float) -> Instance:
    """Return an instance that Airflow skipped without a process."""
    return seen(name, "skipped", when, when)


def upstream_failed(name: str) -> Instance:
    return seen(name, "upstream_failed", 20, 20)


@dataclass(frozen=True)
class Shape:
    tasks: list[dict[str, Any]]
    instances: list[Instance]
    repeated: list[str]
    begin: list[str] = field(default_factory=list)


CHAIN = [task("a", "b"), task("b", "c"), task("c")]
BRANCH = [
    task("pick", "left", "right", operator="@task.branch"),
    task("left", "join"),
    task("right", "join"),
    task("join", trigger_rule="none_failed_min_one_success"),
]
GATED = [task("gate", "never", operator="ShortCircuitOperator"), task("never", "later"), task("later"), task("beside")]
PLACE = [
    task("make", "use", "other", "drop", role="setup"),
    task("use", "drop"),
    task("other", "drop"),
    task("drop", "report", trigger_rule="all_done_setup_success", role="teardown"),
    task("report"),
]
GUESSED = [{name: value for name, value in one.items() if name != "role"} for one in PLACE]
USED = [
    success("make", 1, 2),
    failed("use"),
    success("other", 3, 9),
    success("drop", 21, 22),
    success("report", 23, 24),
]
MAPPED = [task("list", "part"), task("part", "sum", is_mapped=True), task("sum")]
GROUP = [
    task("g.load", "g.check", is_mapped=True, mapped_group="g"),
    task("g.check", "sum", is_mapped=True, mapped_group="g"),
    task("sum"),
]

SHAPES = {
    "a chain that failed": Shape(CHAIN, [success("a", 1, 9), failed("b"), upstream_failed("c")], ["b", "c"]),
    "a chain that was marked failed while b ran": Shape(
        CHAIN, [success("a", 1, 9), failed("b", 10, END), skipped("c", END)], ["b", "c"]
    ),
    "a chain that was marked failed between two tasks": Shape(
        CHAIN, [success("a", 1, 9), skipped("b", END), skipped("c", END)], ["b", "c"]
    ),
    "a chain whose queued task was failed without a process": Shape(
        CHAIN, [success("a", 1, 9), failed("b", END, END), skipped("c", END)], ["b", "c"]
    ),
    "a chain that timed out": Shape(
        CHAIN, [success("a", 1, 9), seen("b", "skipped", 10, None), seen("c", "skipped")], ["b", "c"]
    ),
    "a chain that timed out while b waited for its next try": Shape(
        CHAIN, [success("a", 1, 9), seen("b", "skipped", 10, 20), seen("c", "skipped")], ["b", "c"]
    ),
    "a single task that waited for its next try": Shape(
        [task("a")], [seen("a", "skipped", 10, 20, awaited_try=True)], ["a"]
    ),
    "a task that was marked failed while it waited for its next try": Shape(
        [task("a")], [seen("a", "skipped", 10, END - 0.1)], ["a"]
    ),
    "tasks that were never looked at": Shape(CHAIN, [success("a", 1, 9), seen("b", ""), seen("c", "")], ["b", "c"]),
    "a run that was marked failed after all had succeeded": Shape(
        CHAIN, [success("a", 1, 9), success("b", 10, 19), success("c", 20, 29)], []
    ),
    "a task that skipped itself, and what its rule skipped": Shape(
        [*CHAIN, task("beside")], [success("a", 1, 2), seen("b", "skipped", 3, 5), skipped("c", 6), failed("beside")],
        ["beside"],
    ),
    "a follower that runs after all failures": Shape(
        [task("a", "b"), task("b", trigger_rule="all_done")], [failed("a"), success("b", 21, 22)], ["a", "b"]
    ),
    "a branch whose chosen side failed": Shape(
        BRANCH,
        [success("pick", 1, 5), failed("left"), skipped("right", 4), upstream_failed("join")],
        ["join", "left"],
    ),
    "a branch whose chosen side was cut off before it began": Shape(
        BRANCH,
        [success("pick", 1, 5), skipped("left", END), skipped("right", 4), skipped("join", END)],
        ["join", "left"],
    ),
    "a branch that failed itself": Shape(
        BRANCH,
        [failed("pick"), *(upstream_failed(name) for name in ("left", "right", "join"))],
        ["join", "left", "pick", "right"],
    ),
    "a branch that decides again": Shape(
        BRANCH,
        [success("pick", 1, 5), success("left", 6, 9), skipped("right", 4), success("join", 10, 11)],
        ["join", "left", "pick", "right"],
        begin=["pick"],
    ),
    "a branch that is not repeated": Shape(
        BRANCH,
        [success("pick", 1, 5), success("left", 6, 9), skipped("right", 4), success("join", 10, 11)],
        ["join", "left"],
        begin=["left"],
    ),
    "a short circuit beside a failure": Shape(
        GATED, [success("gate", 1, 5), skipped("never", 4), skipped("later", 4), failed("beside")], ["beside"]
    ),
    "a failure before what a short circuit skipped": Shape(
        [*GATED[:3], task("beside", "later")],
        [success("gate", 1, 5), skipped("never", 4), skipped("later", 4), failed("beside")],
        ["beside"],
    ),
    "a task only for failures, without a failure before it": Shape(
        [task("a", "alarm"), task("alarm", trigger_rule="one_failed"), task("beside")],
        [success("a", 1, 5), skipped("alarm", 6), failed("beside", 10, END)],
        ["beside"],
    ),
    "a mapped task with one failed instance": Shape(
        MAPPED,
        [success("list", 1, 2), success("part[0]", 3, 4), failed("part[1]"), upstream_failed("sum")],
        ["part[1]", "sum"],
    ),
    "a mapped task with nothing to map": Shape(
        [*MAPPED, task("beside")],
        [success("list", 1, 2), skipped("part", 3), skipped("sum", 4), failed("beside", 10, END)],
        ["beside"],
    ),
    "a mapped task that was not expanded when the run ended": Shape(
        [*MAPPED, task("beside")],
        [success("list", 1, 2), skipped("part", END), skipped("sum", END), failed("beside", 10, END)],
        ["beside", "part", "sum"],
    ),
    "a mapped group with one failed index": Shape(
        GROUP,
        [success("g.load[0]", 1, 2), failed("g.load[1]"), success("g.check[0]", 3, 4), upstream_failed("g.check[1]"),
         upstream_failed("sum")],
        ["g.check[1]", "g.load[1]", "sum"],
    ),
    "a mapped group, from one index on": Shape(
        GROUP,
        [success("g.load[0]", 1, 2), success("g.load[1]", 1, 2), success("g.check[0]", 3, 4),
         success("g.check[1]", 3, 4), success("sum", 5, 6)],
        ["g.check[1]", "g.load[1]", "sum"],
        begin=["g.load[1]"],
    ),
    "removed instances": Shape(
        MAPPED,
        [success("list", 1, 2), failed("part[0]"), seen("part[1]", "removed"), upstream_failed("sum")],
        ["part[0]", "sum"],
    ),
    "a task between setup and teardown": Shape(PLACE, USED, ["drop", "make", "report", "use"]),
    "a task between setup and teardown that Airflow does not name": Shape(
        GUESSED, USED, ["drop", "make", "report", "use"]
    ),
    "a task after the teardown": Shape(
        PLACE, [success("make", 1, 2), success("use", 3, 4), success("other", 3, 4), success("drop", 5, 6),
                failed("report")], ["report"],
    ),
    "a setup without a teardown": Shape(
        [task("make", "use", role="setup"), task("use")], [success("make", 1, 2), failed("use")], ["make", "use"]
    ),
    "a teardown that went on after the run was marked failed": Shape(
        PLACE,
        [success("make", 1, 2), failed("use", 10, END), skipped("other", END), success("drop", 90, END + 60),
         skipped("report", END)],
        ["drop", "make", "other", "report", "use"],
    ),
    "a task that the DAG no longer has": Shape([], [success("a", 1, 2), failed("gone")], ["gone"]),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_a_retry_repeats_just_this(name: str) -> None:
    shape = SHAPES[name]
    retry = Retry(Graph.of(shape.tasks), shape.instances, ended_at=at(END))
    begin = {one.key for one in shape.instances if word(one.key) in shape.begin}

    repeated = retry.of(begin) if begin else retry.of_failed()

    assert sorted(map(word, repeated)) == shape.repeated


def word(key: Key) -> str:
    return key.task_id if key.map_index < 0 else f"{key.task_id}[{key.map_index}]"


def test_a_task_that_is_cleared_whole_is_named_once_and_single_instances_by_their_index() -> None:
    shape = SHAPES["a mapped task with one failed instance"]
    retry = Retry(Graph.of(shape.tasks), shape.instances, ended_at=at(END))

    selection = retry.selection(retry.of_failed())

    assert (selection.task_ids, selection.instances) == (["sum"], [["part", 1]])
    assert selection.only_failed
    assert not selection.include_downstream


def test_a_thousand_mapped_instances_take_less_than_five_seconds() -> None:
    count = 1000
    tasks = [task("a", "b", is_mapped=True), task("b", "c", is_mapped=True), task("c")]
    instances = [seen(f"{name}[{index}]", "skipped", END, END) for name in "ab" for index in range(count)]
    began = datetime.now(at(0).tzinfo)

    repeated = Retry(Graph.of(tasks), [*instances, skipped("c", END)], ended_at=at(END)).of_failed()

    assert len(repeated) == 2 * count + 1
    assert datetime.now(at(0).tzinfo) - began < timedelta(seconds=5)
