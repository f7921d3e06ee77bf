"""What a web process does first when it stops: it ends the answers that would hold the stop up."""

from __future__ import annotations

from collections.abc import Callable

# Called when the process begins to stop.
at_stop: set[Callable[[], object]] = set()


class _Process:
    stops = False


def begin() -> None:
    """End every answer that waits. Called for each connection, and does nothing twice."""
    _Process.stops = True
    for end in list(at_stop):
        end()


def has_begun() -> bool:
    return _Process.stops
