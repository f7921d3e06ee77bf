"""How long to wait before the next attempt. Chance is an argument, so that a test can read the schedule."""

from __future__ import annotations

from datetime import timedelta

from rest.backoff import doubling

FIRST = timedelta(seconds=1)
LONGEST = timedelta(seconds=60)


def delay(attempt: int, *, jitter: float) -> timedelta:
    """Exponential from 1 s, at most 60 s; `jitter` in [0, 1) takes up to half of it away.

    "Equal jitter" of https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ : callers that
    failed together do not come back together.
    """
    return doubling(attempt, first=FIRST, longest=LONGEST) * (1 - jitter / 2)
