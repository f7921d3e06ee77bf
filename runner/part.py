"""The parts of the platform: each has one or more processes and one check of whether it is ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Set for a process that holds itself: it imports its code, then waits for a line on its standard input.
HELD = "SVOPS_HELD"


@dataclass(frozen=True, kw_only=True)
class Check:
    """How to see that a process works.

    `wrong` asks once. It returns "" if the process works, or if that cannot be known now, otherwise what is wrong, as
    text that completes "web hung (…)". A process whose every check of `deadline` seconds fails is started again.
    """

    wrong: Callable[[], str]
    deadline: float


@dataclass(frozen=True, kw_only=True)
class Command:
    """One process."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path | None = None
    # Servers that refuse to run as root run as this user.
    uid: int | None = None
    # Returns "" once the process may begin, otherwise what it waits for. Asked at the first start only.
    after: Callable[[], str] | None = None
    # Whether it knows HELD. Its imports then overlap with the wait.
    holds_itself: bool = False
    # None: it is started again when it dies, but not when it hangs.
    check: Check | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """A service of the platform.

    `waiting_for` checks the running part once. It returns "" if the part is ready, otherwise what is missing, as text
    that completes "redis is not ready: …". `exports` are the variables that other parts need to reach it. One that
    `uses_others` to its end is stopped before them.
    """

    name: str
    commands: Sequence[Command]
    waiting_for: Callable[[], str]
    timeout: float = 60
    poll: float = 0.3
    exports: Mapping[str, str] = field(default_factory=dict)
    uses_others: bool = False
