"""The gate compares counts with the committed ones: it fails on growth, names it, and reads only what is a baseline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.table import baseline
from benchmarks.table.__main__ import compare
from benchmarks.table.baseline import BaselineError, Change
from benchmarks.table.counters import rows_read
from benchmarks.table.results import Measured
from benchmarks.table.row import Row, at_most, ratio

COMMITTED = {"trigger": {"queries": 14.0, "bytes": 596.0}}


@pytest.mark.parametrize(
    ("now", "grew"),
    [
        ({"queries": 14.0, "bytes": 596.0}, []),
        ({"queries": 13.0, "bytes": 596.0}, []),
        ({"queries": 14.1, "bytes": 596.0}, ["queries"]),
        # The digits of a time may take a byte more.
        ({"queries": 14.0, "bytes": 600.0}, []),
        ({"queries": 14.0, "bytes": 700.0}, ["bytes"]),
        # What was not counted before has grown from nothing.
        ({"queries": 14.0, "bytes": 596.0, "requests": 1.0}, ["requests"]),
    ],
)
def test_only_a_count_that_is_higher_has_grown(now: dict[str, float], grew: list[str]) -> None:
    changes = baseline.changes(COMMITTED, {"trigger": now})

    assert [change.count for change in changes if change.is_growth] == grew


def test_growth_fails_with_its_row_its_figures_and_the_way_to_renew(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(COMMITTED, {"trigger": {"queries": 36.0, "bytes": 596.0}}, [])

    said = capsys.readouterr().out
    assert "GREW  trigger: queries grew from 14 to 36" in said
    assert "make bench ARGS='--counts --renew'" in said


def test_a_count_that_fell_passes_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert not compare(COMMITTED, {"trigger": {"queries": 10.0, "bytes": 596.0}}, [])
    assert "fell  trigger: queries fell from 14 to 10" in capsys.readouterr().out


def test_a_row_that_is_gone_fails_unless_only_some_were_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(COMMITTED, {}, [])
    assert "GONE  trigger" in capsys.readouterr().out
    assert not compare(COMMITTED, {}, ["GET"])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "is missing"),
        ("{", "is not JSON"),
        ("[]", "expected `counts`"),
        ('{"counts": {"trigger": 3}}', "expected `counts`"),
        ('{"counts": {"trigger": {"queries": "14"}}}', "expected `counts`"),
        ('{"counts": {}, "table": {}}', "expected `table`"),
    ],
)
def test_what_is_no_baseline_is_refused(tmp_path: Path, content: str | None, problem: str) -> None:
    file = tmp_path / "baseline.json"
    if content is not None:
        file.write_text(content)

    with pytest.raises(BaselineError, match=problem):
        baseline.read(file)


def test_renewing_one_part_keeps_the_other(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    baseline.renew(file, table=[{"row": "trigger"}])
    baseline.renew(file, counts=COMMITTED)

    assert json.loads(file.read_text()) == {"counts": COMMITTED, "table": [{"row": "trigger"}]}


def test_the_committed_baseline_has_each_counted_row() -> None:
    from benchmarks.rows import ROWS

    assert {row.name for row in ROWS if row.counts} == set(baseline.read()["counts"])


def test_a_growth_of_bytes_within_the_digits_of_a_time_is_none() -> None:
    assert not Change(row="trigger", count="answer bytes", was=1000, now=1010).is_growth


def test_rows_read_may_vary_as_the_statistics_of_a_sample_do() -> None:
    assert not Change(row="admin list of runs", count="rows read", was=200, now=240).is_growth
    assert Change(row="admin list of runs", count="rows read", was=200, now=260).is_growth


def test_rows_read_are_those_of_tables_with_what_a_filter_removed() -> None:
    scan = {"Relation Name": "workflows_run", "Actual Rows": 3, "Rows Removed by Filter": 7, "Actual Loops": 2}
    bitmap = {"Actual Rows": 99, "Actual Loops": 1}  # its rows are counted where they are read
    plan = {"Actual Rows": 3, "Actual Loops": 1, "Plans": [scan | {"Plans": [bitmap]}]}

    assert rows_read([{"Plan": plan}]) == 20


def test_a_ratio_is_the_median_of_the_rounds_not_of_the_times() -> None:
    """The machine was slow in the second round, for both sides."""
    row = Row(name="a row", goals=(ratio(at_most=2), at_most(5, "queries")), subject=lambda _stage: lambda: None)
    measured = Measured(
        row,
        subject=[{"time": 2.0, "queries": 7}, {"time": 40.0, "queries": 7}, {"time": 2.2, "queries": 7}],
        peer=[{"time": 1.0}, {"time": 20.0}, {"time": 1.0}],
    )

    assert [measured.of(goal) for goal in row.goals] == [2.0, 7]
    assert [measured.meets(goal) for goal in row.goals] == [True, False]
