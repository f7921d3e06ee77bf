"""`python -m runner.guard FILE OWNER`: ends the sessions in FILE when the supervisor, process OWNER, was killed.

Its standard input is a pipe that the supervisor holds open. The pipe closes when that process ends, however it ends.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from runner import sessions

# Seconds from the polite signal to the forced one.
GRACE = 10


def main(file: Path, owner: int) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        continue
    # A supervisor that stops by itself has removed the file. A new one may have written its own by now.
    sessions.end_leftovers(file, grace=GRACE, owner=owner)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
