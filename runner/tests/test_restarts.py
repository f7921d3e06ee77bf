"""The table of ways to die, and what follows each."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from runner.restarts import DELAYS, STEADY, Death, Restarts

KILLED = -9


def deaths(*ends: tuple[int, float], was_ready: bool) -> list[Death]:
    restarts = Restarts("web")
    return [restarts.after(code=code, ran=ran, was_ready=was_ready) for code, ran in ends]


@pytest.mark.parametrize(
    ("was_ready", "ends", "waits"),
    [
        # A wrong setting, a taken port, a missing database: it ends at once, each time.
        (False, [(1, 0.1)] * 3, [1, 2, None]),
        (False, [(0, 0.1)] * 3, [1, 2, None]),
        # The program is not there.
        (False, [(127, 0.0)], [None]),
        (True, [(126, 0.0)], [None]),
        # Killed once, or once an hour.
        (True, [(KILLED, 30.0)], [1]),
        (True, [(KILLED, 3600.0)] * 10, [1] * 10),
        # Killed every five seconds.
        (True, [(KILLED, 5.0)] * 6, [1, 2, 4, 8, 15, None]),
        # Bad minutes, then a good one.
        (True, [(1, 5.0)] * 4 + [(1, STEADY)] + [(1, 5.0)], [1, 2, 4, 8, 1, 2]),
        # It was killed at the start, then lived.
        (False, [(KILLED, 2.0), (KILLED, 2.0)], [1, 2]),
    ],
)
def test_what_follows_each_way_to_die(
    was_ready: bool, ends: Sequence[tuple[int, float]], waits: Sequence[float | None]
) -> None:
    assert [death.wait for death in deaths(*ends, was_ready=was_ready)] == waits


def test_a_restart_is_one_line_with_the_exit_code_the_wait_and_the_limit() -> None:
    (first, second) = deaths((3, 12.4), (-15, 2.0), was_ready=True)

    assert first.again == "web ended with exit code 3 after 12 s; it starts again in 1 s (restart 1 of 5)"
    assert second.again == "web was killed by SIGTERM after 2 s; it starts again in 2 s (restart 2 of 5)"


def test_a_process_that_cannot_live_is_named_with_how_often_it_died() -> None:
    last = deaths(*[(1, 0.1)] * (len(DELAYS) + 1), was_ready=True)[-1]

    assert last.final == "web ended with exit code 1 for the sixth time in a row, so everything else was stopped."
