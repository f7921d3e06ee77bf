"""How long to wait before the next attempt; chance is an argument, so that the schedule can be read off."""

from __future__ import annotations

from datetime import timedelta

FIRST = timedelta(seconds=1)
LONGEST = timedelta(seconds=60)


def delay(attempt: int, *, jitter: float) -> timedelta:
    """Exponential from 1 s, at most 60 s; `jitter` in [0, 1) takes up to half of it away.

    "Equal jitter" of https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ : callers that
    failed together do not come back together.
    """
    doublings = min(attempt - 1, 16)
    whole = min(LONGEST, FIRST * (1 << doublings))
    return whole * (1 - jitter / 2)
