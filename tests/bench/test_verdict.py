"""The load's promise: every trigger accepted, every end told to every watcher, nothing late by more than a second."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.load.verdict import Reached, report, spread

HELD = Reached(
    offered=2,
    seconds=1.0,
    answers=[0.1, 0.9],
    accepted={"svops__a": 100.0, "svops__b": 100.5},
    refused={},
    arrived={"svops__a": 100.2, "svops__b": 100.9},
    late={"workflow.completed": {50: 3, 900: 1}},
    ended={"a": 2, "b": 2},
    closed={},
    watchers=2,
)


def test_the_promise_holds() -> None:
    assert list(HELD.problems()) == []
    assert "The promise held." in report(HELD)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"offered": 3, "refused": {"HTTP 503": 1}}, "1 of 3 triggers were not accepted"),
        ({"arrived": {"svops__a": 100.2}}, "1 accepted runs did not reach Airflow"),
        ({"arrived": {"svops__a": 100.2, "svops__b": 102.0}}, "trigger → Airflow has the run: 1 of 2 took longer"),
        ({"ended": {"a": 2, "b": 1}}, "1 of 4 frames with the end of a run were missed"),
        ({"closed": {"ConnectionClosedError": 1}}, "1 sockets were closed"),
        ({"late": {"workflow.external_change marked": {1: 3}}}, "3 frames tell of 'workflow.external_change marked'"),
        ({"answers": [0.1, 1.2]}, "trigger → answer: 1 of 2 took longer"),
        ({"late": {"workflow.completed": {1500: 1, 10: 9}}}, "workflow.completed → frame: 1 of 10 took longer"),
    ],
)
def test_each_way_in_which_it_does_not_hold_is_named(changed: dict[str, object], problem: str) -> None:
    reached = replace(HELD, **changed)  # type: ignore[arg-type]

    [found] = reached.problems()
    assert found.startswith(problem)
    assert "The promise did NOT hold" in report(reached)


def test_the_spread_of_counted_times() -> None:
    found = spread({1: 50, 2: 45, 3000: 5})

    assert (found.count, found.p50, found.p95, found.most, found.late) == (100, 0.001, 0.002, 3.0, 5)
