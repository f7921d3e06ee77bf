"""The sessions that the platform starts: which processes belong to one, and how to end all of them.

The number of its leader names a session. The system reuses the number once the last process of the session is gone.
So a session is certainly ours only while a process lives that we saw in it. A process is the one we saw only if it
started at the same time.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from runner.home import write_private

POLL = 0.05
# Seconds. The start time of a process moves this much when the clock of the machine is adjusted.
CLOCK_TOLERANCE = 2.0


@dataclass(frozen=True)
class Session:
    """A session that we started, and the processes that we saw in it, each with its number and its start time."""

    name: str
    leader: int
    seen: Sequence[tuple[int, float]]

    @classmethod
    def of(cls, name: str, leader: int) -> Session:
        return cls(name=name, leader=leader, seen=[(process.pid, process.create_time()) for process in members(leader)])

    def looked_at_again(self) -> Session:
        """Return the session with its present processes, or unchanged if it is no longer ours."""
        return Session.of(self.name, self.leader) if self.is_ours() else self

    def is_ours(self) -> bool:
        """Return whether a process that we saw in the session still lives in it."""
        now = {process.pid: process.create_time() for process in members(self.leader)}
        return any(abs(now.get(pid, 0) - started) < CLOCK_TOLERANCE for pid, started in self.seen)

    def end(self, *, grace: float = 0) -> bool:
        """End the session if it is ours, and return whether it was."""
        return self.is_ours() and end(self.leader, grace=grace) > 0


def members(leader: int) -> list[psutil.Process]:
    """Return the living processes of that leader's session."""
    return [process for pid in psutil.pids() if _session_of(pid) == leader and (process := _living(pid))]


def end(leader: int, *, grace: float = 0) -> int:
    """End the session: politely first if there is `grace`, then by force. Return how many processes it had.

    The caller answers for the session being its own: its leader is a child, or was one a moment ago.
    """
    found = len(members(leader))
    if grace and found:
        _signal_all(leader, signal.SIGTERM)
        _wait_until_empty(leader, grace)
    while members(leader):
        _signal_all(leader, signal.SIGKILL)
        _wait_until_empty(leader, 1)
    return found


def remember(file: Path, sessions: Sequence[Session]) -> None:
    """Store the sessions of this process, so that they can be ended if it is killed."""
    write_private(file, json.dumps({"owner": os.getpid(), "sessions": [asdict(session) for session in sessions]}))


def end_leftovers(file: Path, *, grace: float, owner: int | None = None) -> list[str]:
    """End the sessions that an earlier start left running. Return their names.

    With `owner`, only those that this process has stored.
    """
    stored = _stored(file)
    if not stored or (owner is not None and stored.get("owner") != owner):
        return []
    found = [
        Session(name=item["name"], leader=item["leader"], seen=item.get("seen", [])) for item in stored["sessions"]
    ]
    names = [session.name for session in found if session.end(grace=grace)]
    # The next start may have stored its own by now.
    if _stored(file).get("owner") == stored.get("owner"):
        file.unlink(missing_ok=True)
    return names


def _stored(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except FileNotFoundError:
        return {}


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:  # it is gone, or the system does not say
        return None


def _living(pid: int) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        # Asked now, since psutil remembers the answer: the process may be gone when the caller asks.
        process.create_time()
        return process if process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def _signal_all(leader: int, number: signal.Signals) -> None:
    for process in members(leader):
        try:
            process.send_signal(number)  # psutil refuses when the process is gone and its number belongs to another
        except psutil.NoSuchProcess:
            continue


def _wait_until_empty(leader: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while members(leader) and time.monotonic() < deadline:
        time.sleep(POLL)
