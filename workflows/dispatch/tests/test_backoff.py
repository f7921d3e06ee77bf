"""When a command to Airflow is tried again."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from workflows.dispatch import backoff


def seconds(attempt: int, *, jitter: float) -> float:
    return backoff.delay(attempt, jitter=jitter).total_seconds()


def test_the_wait_doubles_from_one_second_to_a_minute() -> None:
    assert [seconds(n, jitter=0) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_chance_takes_up_to_half_of_the_wait_away() -> None:
    assert [seconds(4, jitter=jitter) for jitter in (0, 0.5, 0.75)] == [8, 6, 5]


@given(attempt=st.integers(1, 10**9), jitter=st.floats(0, 1, exclude_max=True))
def test_no_wait_is_shorter_than_half_a_second_or_longer_than_a_minute(attempt: int, jitter: float) -> None:
    assert timedelta(seconds=0.5) <= backoff.delay(attempt, jitter=jitter) <= timedelta(seconds=60)
