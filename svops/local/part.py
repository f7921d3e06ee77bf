"""What the platform is made of: parts, each of one or more processes, with one idea of when it is ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Command:
    """One process."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path | None = None
    # Servers that refuse to run as root run as this user.
    uid: int | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """A service of the platform.

    `waiting_for` asks the running part once and answers "" when it can be used, else what is missing, in
    words that complete "redis is not ready: …". `exports` is what the others need to reach it.
    """

    name: str
    commands: Sequence[Command]
    waiting_for: Callable[[], str]
    timeout: float = 60
    poll: float = 0.3
    exports: Mapping[str, str] = field(default_factory=dict)
