"""Ending every process of a session, also those that left their process group or lost their parent."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from svops.local.home import write_private

PROC = Path("/proc")
POLL = 0.05


@dataclass(frozen=True)
class Session:
    """A session that we started: its leader, and when that process began (in ticks since the boot)."""

    name: str
    leader: int
    began: int

    @classmethod
    def of(cls, name: str, leader: int) -> Session:
        return cls(name=name, leader=leader, began=_began(leader))


def members(leader: int) -> list[int]:
    """The processes alive in that leader's session; without /proc just its group, if it is there."""
    if PROC.is_dir():
        stats = {int(path.name): _stat(int(path.name)) for path in PROC.iterdir() if path.name.isdigit()}
        return [pid for pid, stat in stats.items() if stat and stat[0] != "Z" and int(stat[3]) == leader]
    try:
        os.killpg(leader, 0)
    except OSError:
        return []
    return [leader]


def end(leader: int, *, grace: float = 0) -> int:
    """End the session: politely first if there is `grace`, then by force. Returns how many it found."""
    found = len(members(leader))
    if grace and found:
        _signal_all(leader, signal.SIGTERM)
        _wait_until_empty(leader, grace)
    while members(leader):
        _signal_all(leader, signal.SIGKILL)
        _wait_until_empty(leader, 1)
    return found


def remember(file: Path, sessions: list[Session]) -> None:
    """Write down what runs, so that the next start can end it if we do not get to."""
    write_private(file, json.dumps({"boot": _boot(), "sessions": [asdict(session) for session in sessions]}))


def end_leftovers(file: Path, *, grace: float) -> list[str]:
    """End what an earlier start left running, and return the names of those sessions."""
    if not file.is_file():
        return []
    left = json.loads(file.read_text())
    sessions = [Session(**session) for session in left["sessions"]] if left["boot"] == _boot() else []
    names = [session.name for session in sessions if _is_ours(session) and end(session.leader, grace=grace)]
    file.unlink()
    return names


def _is_ours(session: Session) -> bool:
    # A number is not given to a new process while a session of that number lives, so members without
    # a leader are ours; a leader that began at another time is a stranger under a number used again.
    return _began(session.leader) in {session.began, 0}


def _signal_all(leader: int, number: signal.Signals) -> None:
    for pid in members(leader):
        try:
            os.killpg(pid, number) if not PROC.is_dir() else os.kill(pid, number)
        except ProcessLookupError:
            continue


def _wait_until_empty(leader: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while members(leader) and time.monotonic() < deadline:
        time.sleep(POLL)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on: state, parent, group, session, …; [] if it is gone."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return []
    # The second field is the command's name in parentheses, which may hold spaces and parentheses itself.
    return text.rpartition(")")[2].split()


def _began(pid: int) -> int:
    stat = _stat(pid)
    return int(stat[19]) if stat and stat[0] != "Z" else 0


def _boot() -> str:
    file = PROC / "sys/kernel/random/boot_id"
    return file.read_text().strip() if file.is_file() else ""
