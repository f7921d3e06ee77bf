"""How long to wait before the next try, wherever something is tried again and again."""

from __future__ import annotations

from datetime import timedelta

MOST_DOUBLINGS = 30


def doubling(tries: int, *, first: timedelta, longest: timedelta) -> timedelta:
    """Return `first` after one try, twice as much after each further one, and never more than `longest`."""
    doublings = min(max(tries - 1, 0), MOST_DOUBLINGS)
    return min(first * (1 << doublings), longest)
