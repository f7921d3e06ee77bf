"""`python -m svops.local.tests.stand HOME JSON`: commands under the supervisor, as parts of a platform would be.

JSON maps names to shell commands; a command that writes `up` into the file that $READY names has become ready.
Prints `ready` once all are.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from svops.local.errors import StartError
from svops.local.home import Home
from svops.local.part import Command, Part
from svops.local.sessions import end_leftovers
from svops.local.supervisor import Supervisor

TIMEOUT = float(os.environ.get("STAND_TIMEOUT", "20"))


def part(home: Home, name: str, script: str) -> Part:
    mark = home.directory("marks") / name
    mark.unlink(missing_ok=True)
    env = dict(os.environ) | {"READY": str(mark)}
    return Part(
        name=name,
        commands=[Command(name=name, argv=["/bin/sh", "-c", script], env=env)],
        waiting_for=lambda: "" if mark.is_file() else "it has not said so",
        timeout=TIMEOUT,
    )


def main(home: Home, scripts: dict[str, str]) -> int:
    def then(_stop: threading.Event) -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    with home.locked():
        for name in end_leftovers(home.sessions, grace=1):
            sys.stdout.write(f"ended {name}\n")
        parts = [part(home, name, script) for name, script in scripts.items()]
        supervisor = Supervisor(parts, logs=home.logs, remember_in=home.sessions, verbose=False)
        return supervisor.run(ready=lambda _part, _seconds: None, then=then)


if __name__ == "__main__":
    try:
        sys.exit(main(Home(Path(sys.argv[1])), json.loads(sys.argv[2])))
    except StartError as exc:
        sys.stderr.write(f"{exc}\n")
        sys.exit(1)
