"""How long to wait before the next try."""

from __future__ import annotations

FIRST = 0.2  # seconds
LONGEST = 20.0


def pause(tries: int, *, chance: float, longest: float = LONGEST, at_least: float | None = None) -> float:
    """Return the seconds to wait after so many failed tries. `chance` in [0, 1) spreads callers apart.

    `at_least` is what the platform asks for: a wait is longer than that by up to a fifth, never shorter.
    """
    if at_least is not None:
        return at_least * (1 + chance / 5)
    return min(longest, FIRST * 2.0 ** min(tries, 10)) * (0.5 + chance / 2)
