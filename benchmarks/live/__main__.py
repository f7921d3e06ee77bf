"""`python -m benchmarks.live`: one interleaved run over all servers that are installed, reported as Markdown."""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.live import processes, report
from benchmarks.live.processes import BenchmarkError
from benchmarks.live.report import Results
from benchmarks.live.servers import HERE, SERVERS, Server, beside
from benchmarks.live.stand import Stand, standing

FIRST_PORT = 18600
SLOWEST_LOAD = 0.2  # events per second; with less, a window of measurement would be empty


@dataclass(frozen=True, kw_only=True)
class Options:
    clients: int
    rounds: int
    load_rounds: int
    warm_up: float
    seconds: float
    load_seconds: float


FULL = Options(clients=1000, rounds=8, load_rounds=4, warm_up=0.7, seconds=1.5, load_seconds=4)
QUICK = Options(clients=200, rounds=2, load_rounds=1, warm_up=0.4, seconds=0.8, load_seconds=2)


def main() -> int:
    arguments = _parser().parse_args()
    options = QUICK if arguments.quick else FULL
    if arguments.clients:
        options = Options(**(vars(options) | {"clients": arguments.clients}))
    processes.raise_file_limit()
    # Ends with an exception, so that all started processes end too.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(prefix="svops-bench-") as directory:
            servers = _chosen(arguments.only) + [beside(checkout) for checkout in arguments.beside]
            results = _run(servers, options, Path(directory))
    except BenchmarkError as exc:
        print(f"bench-live: {exc}", file=sys.stderr)
        return 1
    print(report.markdown(results))
    return 1 if results.problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench-live", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer clients, rounds and seconds: a first look, not a result"
    )
    parser.add_argument("--clients", type=int, help="number of WebSocket clients of each server")
    parser.add_argument("--only", action="append", default=[], help="only servers whose name contains this; repeatable")
    parser.add_argument(
        "--beside", action="append", default=[], type=Path, help="also measure SVOps from this checkout; repeatable"
    )
    return parser


def _chosen(only: list[str]) -> list[Server]:
    chosen = []
    for server in SERVERS:
        if only and not any(part.lower() in server.name.lower() for part in only):
            continue
        if missing := server.missing():
            print(f"{server.name} is left out: {missing}")
        else:
            chosen.append(server)
    return chosen


def _compiled(directory: Path) -> Path:
    if not shutil.which("cc"):
        raise BenchmarkError("the load client needs a C compiler; on Debian: apt-get install gcc libc6-dev")
    load = directory / "load"
    subprocess.run(["cc", "-O2", "-o", str(load), str(HERE / "load.c")], check=True)
    return load


def _run(servers: list[Server], options: Options, directory: Path) -> Results:
    load = _compiled(directory)
    results = Results(clients=options.clients)
    began = time.monotonic()
    with ExitStack() as stack:
        stands: list[Stand] = []
        for number, server in enumerate(servers):
            _say(began, f"{server.name}: {options.clients} clients connect")
            starting = standing(
                server,
                directory=directory / str(number),
                port=FIRST_PORT + number,
                clients=options.clients,
                load=load,
            )
            try:
                stands.append(stack.enter_context(starting))
            except BenchmarkError as exc:
                results.problems[server.name] = f"left out, {exc}"
        for number in range(options.rounds):
            for stand in _in_turn(stands, number):
                window = stand.saturate(warm_up=options.warm_up, seconds=options.seconds)
                results.add_saturated(stand.server.name, window)
                _say(began, f"round {number + 1}, {stand.server.name}: {window.rate:,.0f} deliveries/s")
        for number in range(options.load_rounds):
            for stand in _in_turn(stands, number):
                _load(stand, results, options)
        for stand in stands:
            results.add_end(stand)
    return results


def _in_turn(stands: list[Stand], number: int) -> list[Stand]:
    """Return the stands in the order A B, B A, A B …, so that slow changes of the machine affect all alike."""
    return stands if number % 2 == 0 else stands[::-1]


def _load(stand: Stand, results: Results, options: Options) -> None:
    rate = max(results.median_rate(stand.server.name) / 2 / stand.clients, SLOWEST_LOAD)
    # The window must contain some events.
    seconds = max(options.load_seconds, 4 / rate)
    results.add_loaded(stand.server.name, stand.load(rate, warm_up=max(0.5, 1 / rate), seconds=seconds))


def _say(began: float, sentence: str) -> None:
    print(f"{time.monotonic() - began:6.1f} s  {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
