"""`make load`: short runs are triggered at a fixed rate while clients watch, and nothing may be late by a second.

It starts SVOps as `make up` does, on a PostgreSQL of its own and a scripted Airflow that pushes as the listener does.
It prints what was reached, and fails if a trigger was refused, if an end was missed, or if anything was late.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, cast

import requests

from benchmarks.load import verdict
from benchmarks.table import workers
from benchmarks.table.airflow import dag_json
from benchmarks.table.cluster import Cluster
from benchmarks.table.names import dag_name, owner_name
from benchmarks.table.workers import Places, started
from runner.errors import StartError
from runner.ports import free_port
from runner.testing import Served

START_TIMEOUT = 180
DRAIN = 30  # seconds after the last trigger in which an end may still arrive
WORKFLOWS, DAGS, USERS = 100, 20, 104


def main() -> int:
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    if arguments.quick:
        arguments.rate, arguments.seconds, arguments.sockets = 10, 15, 100
    try:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="svops-load-")))
            return _run(arguments, stack, directory)
    except StartError as exc:
        print(f"load: {exc}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make load", description=__doc__)
    parser.add_argument("--rate", type=float, default=200, help="triggers per second")
    parser.add_argument("--batch", type=int, default=1, help="triggers in one request")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--sockets", type=int, default=1000)
    parser.add_argument("--webs", type=int, default=1, help="web processes; triggers and sockets are spread over them")
    parser.add_argument("--runs", type=int, default=10_000, help="runs in the database before")
    parser.add_argument("--quick", action="store_true", help="10 triggers a second for 15 s, 100 sockets")
    return parser


def _run(arguments: argparse.Namespace, stack: ExitStack, directory: Path) -> int:
    databases = stack.enter_context(Cluster())
    redis = Served("redis", home=directory / "redis")
    stack.callback(redis.stop)
    databases.run("CREATE DATABASE load")
    places = Places(database_url=databases.url("load"), redis_url=redis.exports["REDIS_URL"], home=directory)
    airflow_url = stack.enter_context(workers.scripted_airflow())
    env = places.environment(airflow_url=airflow_url) | {"READY_TOKEN": "only for the load"}
    callers = _prepare(places, env, airflow_url, runs=arguments.runs)
    urls = [f"http://127.0.0.1:{free_port()}" for _ in range(arguments.webs)]
    _control(
        airflow_url, live={"seconds": 1.0, "url": f"{urls[0]}/api/v1/ingest", "secret": env["SVOPS_INGEST_SECRET"]}
    )
    _start(stack, env, urls, directory)
    _say(f"SVOps is ready; {arguments.sockets} sockets connect")
    watching = [_watching(stack, url, callers, arguments.sockets // len(urls)) for url in urls]
    _say(f"{arguments.rate:g} triggers a second for {arguments.seconds:g} s")
    order = {"rate": arguments.rate, "batch": arguments.batch, "seconds": arguments.seconds}
    triggered = _trigger({"url": urls[0], "callers": callers, **order})
    _await_ends(airflow_url, triggered["accepted"])
    found = _together([_end(process) for process in watching])
    reached = verdict.of_answers(
        triggered=triggered,
        watched=found,
        arrived=_control(airflow_url, arrived=True)["arrived"],
        offered=round(arguments.rate * arguments.seconds),
        seconds=arguments.seconds,
        watchers=arguments.sockets // WORKFLOWS,
    )
    print(verdict.report(reached))
    return 1 if list(reached.problems()) else 0


def _prepare(places: Places, env: Mapping[str, str], airflow_url: str, *, runs: int) -> list[dict[str, Any]]:
    """Load the data and mirror the DAGs. Return the callers, each with a token and its workflow."""
    workers.migrate(env)
    _control(airflow_url, dags={name: dag_json(name, ["work"]) for name in map(dag_name, range(1, DAGS + 1))})
    with workers.working("load", places) as worker:
        worker.load(runs, dags=DAGS, workflows=WORKFLOWS, users=USERS)
        owners = [owner_name(workflow, users=USERS) for workflow in range(1, WORKFLOWS + 1)]
        tokens = worker.tokens(owners)
    workers.manage(env, "sync_dags")
    return [{"token": token, "workflow": number} for number, token in enumerate(tokens, 1)]


def _start(stack: ExitStack, env: Mapping[str, str], urls: Sequence[str], logs: Path) -> None:
    """Start the processes of `make up`, and wait until they are ready."""
    commands = [[sys.executable, "-m", "svops.server", "--port", url.rpartition(":")[2]] for url in urls]
    for number, command in enumerate([*commands, *workers.PLATFORM]):
        log = stack.enter_context((logs / f"{number}.log").open("w"))
        stack.enter_context(started(command, env, stdout=log, stderr=log))
    for url in urls:
        _await(lambda url=url: _is_ready(url, env["READY_TOKEN"]), "SVOps is not ready")  # type: ignore[misc]


def _is_ready(url: str, token: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", headers={"Authorization": f"Bearer {token}"}, timeout=10).ok
    except requests.RequestException:
        return False


def _await(condition: Callable[[], bool], otherwise: str, *, seconds: float = START_TIMEOUT) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise StartError(f"{otherwise} after {seconds:g} s")
        time.sleep(0.2)


def _watching(stack: ExitStack, url: str, callers: Sequence[Mapping[str, Any]], count: int) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "benchmarks.load.watchers"]
    process = stack.enter_context(started(argv, dict(os.environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    sockets = [callers[number % len(callers)] for number in range(count)]
    _tell(process, {"url": url.replace("http", "ws", 1), "sockets": sockets})
    _read(process)
    return process


def _trigger(order: Mapping[str, Any]) -> dict[str, Any]:
    argv = [sys.executable, "-m", "benchmarks.load.triggers"]
    with started(argv, dict(os.environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        _tell(process, order)
        return _read(process)


def _await_ends(airflow_url: str, accepted: Mapping[str, float]) -> None:
    """Wait until Airflow has ended all runs, and then as long as an end may be late; or for `DRAIN` seconds."""
    ends = time.monotonic() + DRAIN
    while time.monotonic() < ends:
        ended = {run_id for _, run_id in _control(airflow_url)["ends"]}
        if accepted.keys() <= ended:
            ends = min(ends, time.monotonic() + 3 * verdict.LATE)
        time.sleep(0.5)


def _end(process: subprocess.Popen[str]) -> dict[str, Any]:
    cast("IO[str]", process.stdin).close()
    return _read(process)


def _together(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up what the watchers of several web processes have seen."""
    late: dict[str, Counter[str]] = defaultdict(Counter)
    ended, closed = Counter[str](), Counter[str]()
    for part in parts:
        for kind, counts in part["late"].items():
            late[kind].update(counts)
        ended.update(part["ended"])
        closed.update(part["closed"])
    return {"late": late, "ended": ended, "closed": closed}


def _control(url: str, **order: Any) -> dict[str, Any]:
    answer = requests.post(f"{url}/control", json=order, timeout=60)
    answer.raise_for_status()
    counts: dict[str, Any] = answer.json()
    return counts


def _tell(process: subprocess.Popen[str], order: Mapping[str, Any]) -> None:
    given = cast("IO[str]", process.stdin)
    given.write(json.dumps(order) + "\n")
    given.flush()


def _read(process: subprocess.Popen[str]) -> dict[str, Any]:
    line = cast("IO[str]", process.stdout).readline()
    if not line:
        raise StartError("a process of the load has ended")
    answer: dict[str, Any] = json.loads(line)
    return answer


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
