"""Single parts on their own: for the tests, for CI, and for a terminal beside the editor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from svops.local.airflow import Airflow
from svops.local.airflow2 import Airflow2
from svops.local.home import Home
from svops.local.part import Part
from svops.local.ports import free_port
from svops.local.postgres import Postgres
from svops.local.redis import redis_part
from svops.local.supervisor import Supervisor, Then

POLL = 0.1


def _redis(home: Home, _cleanup: ExitStack) -> Part:
    return redis_part(home)


def _airflow(home: Home, _cleanup: ExitStack) -> Part:
    airflow = Airflow(home, port=int(os.environ.get("AIRFLOW_PORT") or free_port()))
    airflow.prepare()
    return airflow.part()


def _postgres(home: Home, cleanup: ExitStack) -> Part:
    postgres = Postgres(home)
    cleanup.callback(postgres.remove)
    postgres.prepare()
    return postgres.part()


def _airflow2(home: Home, _cleanup: ExitStack) -> Part:
    airflow = Airflow2(home, port=int(os.environ.get("AIRFLOW_PORT") or free_port()))
    airflow.prepare()
    return airflow.part()


PARTS: dict[str, Callable[[Home, ExitStack], Part]] = {
    "redis": _redis,
    "airflow": _airflow,
    "airflow2": _airflow2,
    "postgres": _postgres,
}


@contextmanager
def built(names: Sequence[str], home: Home) -> Iterator[list[Part]]:
    with ExitStack() as cleanup:
        yield [PARTS[name](home, cleanup) for name in names]


def exports(parts: Sequence[Part]) -> dict[str, str]:
    return {name: value for part in parts for name, value in part.exports.items()}


def serve(names: Sequence[str], *, home: Home, verbose: bool) -> int:
    """Run the parts, print what they export as a line of JSON once they are ready, and end with our input."""

    def announce(parts: Sequence[Part]) -> Then:
        def then(stop: threading.Event) -> int | None:
            sys.stdout.write(json.dumps(exports(parts)) + "\n")
            sys.stdout.flush()
            threading.Thread(target=_stop_at_end_of_input, args=(stop,), daemon=True).start()
            stop.wait()
            return 0

        return then

    return _run(names, home=home, verbose=verbose, then=announce)


def run_with(names: Sequence[str], argv: Sequence[str], *, home: Home, verbose: bool) -> int:
    """Run a command beside the parts, with what they export in its environment, and return its exit code."""

    def run(parts: Sequence[Part]) -> Then:
        def then(stop: threading.Event) -> int | None:
            command = subprocess.Popen(argv, env=dict(os.environ) | exports(parts))  # noqa: S603 - the caller's own
            while command.poll() is None:
                if stop.wait(POLL):
                    command.terminate()
                    return command.wait()
            return command.returncode

        return then

    return _run(names, home=home, verbose=verbose, then=run)


def _run(names: Sequence[str], *, home: Home, verbose: bool, then: Callable[[Sequence[Part]], Then]) -> int:
    with home.locked(), built(names, home) as parts:
        supervisor = Supervisor(parts, logs=home.logs, remember_in=home.sessions, verbose=verbose)
        return supervisor.run(ready=lambda _part, _seconds: None, then=then(parts))


def _stop_at_end_of_input(stop: threading.Event) -> None:
    """The process that started us holds the other end of our input: it closes when that process is gone."""
    # Not through `sys.stdin`: its lock, held while this waits, would have Python abort at its exit.
    while os.read(sys.stdin.fileno(), 1024):
        continue
    stop.set()
