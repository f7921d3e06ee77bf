"""What the row of a task instance knows of the log: the same as the log says, in every life of a task."""

from __future__ import annotations

import pytest

from workflows.models import Run, Workflow
from workflows.tests.stage import new_run, story, task
from workflows.watch.recorded import History, fill
from workflows.watch.tests.polls import polled

pytestmark = pytest.mark.django_db

# The steps of each life: the state, the try, its start and end, and which of Airflow's ids it has.
LIVES: dict[str, list[tuple[str | None, int, int | None, int | None, int]]] = {
    "paused in the middle": [
        ("running", 1, 2, None, 1),
        ("deferred", 1, 2, None, 1),
        ("queued", 1, 2, None, 1),
        ("running", 1, 9, None, 1),
        ("success", 1, 9, 12, 1),
    ],
    "retried": [
        ("running", 1, 2, None, 1),
        ("up_for_retry", 1, 2, 5, 2),
        ("queued", 2, 2, 5, 2),
        ("running", 2, 8, None, 2),
        ("failed", 2, 8, 11, 2),
    ],
    "its retry ended unseen": [("running", 1, 2, None, 1), ("queued", 2, 2, 5, 2), ("success", 2, 8, 11, 2)],
    "ended twice without a process": [("failed", 1, 2, 2, 1), ("queued", 2, 2, 2, 2), ("failed", 2, 2, 9, 2)],
    "skipped, cleared, run": [("skipped", 0, 2, 2, 1), (None, 0, None, None, 2), ("success", 1, 8, 9, 2)],
    "cleared, skipped": [("success", 1, 2, 4, 1), (None, 1, 2, 4, 2), ("queued", 2, 2, 4, 2), ("skipped", 2, 2, 9, 2)],
    "marked": [
        ("running", 1, 2, None, 1),
        ("failed", 1, 2, 5, 1),
        ("success", 1, 2, 5, 1),
        ("failed", 1, 2, 5, 1),
    ],
    "its try number falls": [
        ("running", 2, 4, None, 2),
        ("up_for_retry", 1, 2, 3, 1),
        ("queued", 2, 4, None, 2),
        ("success", 2, 4, 9, 2),
    ],
    "passes of a loop": [
        ("success", 1, 2, 4, 1),
        ("running", 1, 5, None, 2),
        ("success", 1, 5, 7, 2),
        ("success", 2, 9, 11, 3),
        ("success", 1, 5, 7, 2),
    ],
}


def live(run: Run, life: str, *, ids: bool, forget: bool) -> None:
    for second, (state, tries, start, end, number) in enumerate(LIVES[life], start=5):
        seen = task(run, "extract", state, tries=tries, start=start, end=end, id=f"id-{number}" if ids else None)
        polled(run, second, "running", seen, start=1)
        if forget:
            run.tasks.update(start_recorded=None, end_recorded="", recorded_from=None)


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("life", LIVES)
def test_a_row_that_knows_nothing_of_the_log_reads_what_others_know(nightly: Workflow, life: str, ids: bool) -> None:
    knowing, reading = new_run(nightly), new_run(nightly)
    live(knowing, life, ids=ids, forget=False)
    live(reading, life, ids=ids, forget=True)

    assert story(reading) == story(knowing)


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("life", LIVES)
def test_a_row_knows_what_the_log_says(nightly: Workflow, life: str, ids: bool) -> None:
    run = new_run(nightly)
    live(run, life, ids=ids, forget=False)

    rows = list(run.tasks.all())
    known = [(row.start_recorded, row.end_recorded) for row in rows]
    for row in rows:
        row.start_recorded, row.end_recorded = None, ""
        fill(row, History(run, {("extract", -1)}))

    assert known == [(row.start_recorded, row.end_recorded) for row in rows]
