"""What stops a start; the message is the one sentence that the person in front of the terminal reads."""

from __future__ import annotations

from pathlib import Path

TAIL_LINES = 15


class StartError(Exception):
    """The platform can not start, or can not go on."""


def with_tail(sentence: str, log: Path) -> str:
    """`sentence`, and below it the last lines of `log`."""
    lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:] if log.is_file() else []
    shown = [f"{sentence} Its log is {log}" + (", which ends:" if lines else ".")]
    return "\n".join([*shown, *(f"    {line}" for line in lines)])
