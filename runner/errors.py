"""Errors that stop a start. The message is one sentence for the person at the terminal."""

from __future__ import annotations

import re
from pathlib import Path

TAIL_LINES = 15
# What the last lines of a log say, and what helps then.
ADVICE = {
    r"address already in use|Errno (98|48)\b": (
        "another program listens on its port: stop that program, or set SVOPS_PORT or AIRFLOW_PORT to another port."
    ),
    r"database is locked": (
        "the machine is too busy for SQLite: start again when less runs on it, or use PostgreSQL with DATABASE_URL."
    ),
    r"no such table|unable to open database file|disk image is malformed": (
        "its database is missing or damaged: start again, which creates what is missing, or put back a copy."
    ),
    r"No space left on device|disk is full": "make room on the disk, then start again.",
    r"Cannot allocate memory|MemoryError": "the memory ran out: end other programs, then start again.",
    r"Too many open files": "raise the limit of open files (ulimit -n), then start again.",
    r"ModuleNotFoundError|not found|No such file": (
        "a program or a file is missing: run scripts/setup, then start again."
    ),
    r"ImproperlyConfigured|AirflowConfigException": "correct the setting that the log names, then start again.",
}
KILLED = "if nobody killed it, the memory of the machine ran out: end other programs, then start again."
OTHERWISE = "read the log for the reason, then start again."


class StartError(Exception):
    """The platform cannot start, or cannot go on."""


def with_tail(sentence: str, log: Path) -> str:
    """Return `sentence`, with the last lines of `log` below it."""
    lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:] if log.is_file() else []
    shown = [f"{sentence} Its log is {log}" + (", which ends:" if lines else ".")]
    return "\n".join([*shown, *(f"    {line}" for line in lines)])


def last_words(sentence: str, log: Path) -> str:
    """Return `sentence` with the last lines of `log`, and what to do about them."""
    tail = with_tail(sentence, log)
    lines = tail.partition("\n")[2]
    known = next((advice for pattern, advice in ADVICE.items() if re.search(pattern, lines, re.IGNORECASE)), "")
    return f"{tail}\nWhat to do: {known or (KILLED if 'SIGKILL' in sentence else OTHERWISE)}"
