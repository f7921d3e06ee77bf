"""`python -m runner.tests.stand HOME JSON`: commands under the supervisor, as parts of a platform would be.

JSON maps names to shell commands; a command that writes `up` into the file that $READY names has become ready. One with
an endless loop has to write it again and again, or it hangs.
`two after one` is the command `two`, which is held until `one` is ready; `two!` uses the others to its end. Prints
`ready` once all are.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

from runner.errors import StartError
from runner.home import Home
from runner.part import Check, Command, Part
from runner.sessions import end_leftovers
from runner.supervisor import Supervisor

HANG = 5.0
TIMEOUT = float(os.environ.get("STAND_TIMEOUT", "20"))


def part(home: Home, words: str, script: str) -> Part:
    name, _, before = words.rstrip("!").partition(" after ")
    marks = home.directory("marks")
    mark = marks / name
    mark.unlink(missing_ok=True)
    env = dict(os.environ) | {"READY": str(mark)}

    def after() -> str:
        return "" if (marks / before).is_file() else f"{before} is not ready"

    def shows_no_life() -> str:
        age = time.time() - mark.stat().st_mtime
        return f"it has shown no life for {age:.0f} s" if age > HANG else ""

    # Most commands here only sleep.
    check = Check(wrong=shows_no_life, deadline=HANG) if "while true" in script else None
    argv = ["/bin/sh", "-c", script]
    return Part(
        name=name,
        commands=[Command(name=name, argv=argv, env=env, after=after if before else None, check=check)],
        waiting_for=lambda: "" if mark.is_file() else "it has not said so",
        timeout=TIMEOUT,
        uses_others=words.endswith("!"),
    )


def main(home: Home, scripts: dict[str, str]) -> int:
    def then(_stop: threading.Event) -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    with home.locked():
        for name in end_leftovers(home.sessions, grace=1):
            sys.stdout.write(f"ended {name}\n")
        parts = [part(home, name, script) for name, script in scripts.items()]

        def say(line: str) -> None:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

        supervisor = Supervisor(parts, logs=home.logs, remember_in=home.sessions, verbose=False, say=say)
        return supervisor.run(ready=lambda _part, _seconds: None, then=then)


if __name__ == "__main__":
    try:
        sys.exit(main(Home(Path(sys.argv[1])), json.loads(sys.argv[2])))
    except StartError as exc:
        sys.stderr.write(f"{exc}\n")
        sys.exit(1)
