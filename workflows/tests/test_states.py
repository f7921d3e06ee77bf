"""The table of how a run may move."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.models import Run, Workflow
from workflows.states import ENTERED_FROM, OPEN, TERMINAL, RunState
from workflows.tests.stage import new_run

S = RunState
ALLOWED = {
    (S.PENDING, S.QUEUED),
    (S.PENDING, S.RUNNING),
    (S.PENDING, S.STOPPING),
    (S.PENDING, S.SUCCESS),
    (S.PENDING, S.FAILED),
    (S.PENDING, S.STOPPED),
    (S.QUEUED, S.RUNNING),
    (S.QUEUED, S.STOPPING),
    (S.QUEUED, S.SUCCESS),
    (S.QUEUED, S.FAILED),
    (S.RUNNING, S.STOPPING),
    (S.RUNNING, S.SUCCESS),
    (S.RUNNING, S.FAILED),
    (S.STOPPING, S.STOPPED),
    # Retried here or cleared in Airflow:
    (S.SUCCESS, S.QUEUED),
    (S.FAILED, S.QUEUED),
    (S.STOPPED, S.QUEUED),
    # Marked in Airflow:
    (S.SUCCESS, S.FAILED),
    (S.FAILED, S.SUCCESS),
}
# A new run is `pending`; no run moves there.
TARGETS = sorted(set(S) - {S.PENDING})


def test_open_and_terminal_states_are_all_states() -> None:
    assert {"pending", "queued", "running", "stopping"} == OPEN
    assert {"success", "failed", "stopped"} == TERMINAL


@pytest.mark.django_db
@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("state", sorted(S))
def test_a_move_succeeds_just_where_the_table_says(nightly: Workflow, state: RunState, to: RunState) -> None:
    run = new_run(nightly, state)

    moved = Run.objects.move(run.pk, to=to, state_reason="moved")

    assert moved == ((state, to) in ALLOWED)
    run.refresh_from_db()
    assert (run.state, run.state_reason) == ((to, "moved") if moved else (state, ""))


@given(st.lists(st.sampled_from(TARGETS), max_size=30))
def test_no_sequence_of_moves_leaves_the_table_or_ends_a_stop_in_another_state_than_stopped(
    targets: list[RunState],
) -> None:
    path = [S.PENDING]
    for to in targets:
        if path[-1] in ENTERED_FROM[to]:
            path.append(to)

    steps = list(pairwise(path))
    assert set(steps) <= ALLOWED
    assert {to for state, to in steps if state == S.STOPPING} <= {S.STOPPED}
    assert {to for state, to in steps if state == S.STOPPED} <= {S.QUEUED}
    assert {to for state, to in steps if state in TERMINAL} <= {S.QUEUED, S.SUCCESS, S.FAILED}
