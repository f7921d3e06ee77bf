"""Runs single parts: for the tests, for CI, and for a terminal beside the editor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from runner.airflow import Airflow
from runner.airflow2 import Airflow2
from runner.airflow_fab import AirflowFab
from runner.home import Home
from runner.part import Part
from runner.ports import free_port
from runner.postgres import Postgres
from runner.redis import redis_part
from runner.supervisor import Supervisor, Then
from runner.versions import is_airflow_2, is_fab, tested_version

POLL = 0.1


def _redis(home: Home, _cleanup: ExitStack) -> Part:
    return redis_part(home)


def _kind() -> type[Airflow]:
    if is_fab():
        return AirflowFab
    return Airflow2 if is_airflow_2() else Airflow


def _airflow(home: Home, _cleanup: ExitStack) -> Part:
    # Tests have DAGs of their own.
    folder = os.environ.get("AIRFLOW_DAGS_FOLDER")
    env = {"AIRFLOW__CORE__DAGS_FOLDER": folder} if folder else {}
    port = int(os.environ.get("AIRFLOW_PORT") or free_port())
    airflow = _kind()(home, port=port, env=env, version=tested_version())
    airflow.prepare()
    return airflow.part()


def _postgres(home: Home, cleanup: ExitStack) -> Part:
    postgres = Postgres(home)
    cleanup.callback(postgres.remove)
    postgres.prepare()
    return postgres.part()


def _airflow2(home: Home, _cleanup: ExitStack) -> Part:
    port = int(os.environ.get("AIRFLOW_PORT") or free_port())
    airflow = Airflow2(home, port=port, version=tested_version() if is_airflow_2() else None)
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
    """Run the parts, print their exports as a line of JSON when they are ready, and end when standard input closes."""

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
    """Run a command beside the parts, with their exports in its environment. Return its exit code."""

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
        supervisor = Supervisor(parts, logs=home.logs, remember_in=home.sessions, verbose=verbose, say=_say)
        return supervisor.run(ready=lambda _part, _seconds: None, then=then(parts))


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _stop_at_end_of_input(stop: threading.Event) -> None:
    """Stop when standard input closes: then the process that started this one, and holds the other end, has ended."""
    # Not through `sys.stdin`: this wait would hold its lock, and Python would abort at exit.
    while os.read(sys.stdin.fileno(), 1024):
        continue
    stop.set()
