"""`make bench`: what each kind of work costs, beside its peer, on a private PostgreSQL and a scripted Airflow.

The whole takes about ten minutes; `--quick` two. `--counts` only counts queries, requests, bytes and rows read, and
fails when one has grown: the gate runs it. `--renew` writes what was measured into `benchmarks/baseline.json`.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.table import baseline, cluster, flame, results, workers
from benchmarks.table.cluster import Cluster
from benchmarks.table.results import Measured
from benchmarks.table.row import COUNTING, QUICK, WHOLE, Row
from benchmarks.table.workers import NOWHERE, Places, Worker
from runner.errors import StartError
from runner.testing import Served

SMALL, BIG = "small", "big"
LITTLE = 10_000  # runs in the small database
# Where `make bench-data` keeps the millions. Not in the checkout: PostgreSQL may run as another user.
KEPT = Path("/var/tmp/svops-bench")  # noqa: S108 - it is kept on purpose, and holds invented rows
OUTPUT = baseline.FILE.with_name("latest.json")
FEWEST_ROUNDS = 3
PROFILED = 3.0  # seconds of work that are sampled for each row


@dataclass(frozen=True, kw_only=True)
class Options:
    runs: int
    seconds: float  # for each row
    rounds: int
    extent: str


THE_WHOLE = Options(runs=1_000_000, seconds=14, rounds=9, extent=WHOLE)
A_LOOK = Options(runs=100_000, seconds=2, rounds=1, extent=QUICK)


def main() -> int:
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    try:
        if arguments.load:
            return _keep(arguments.data, arguments.runs or 5_000_000)
        if arguments.profile:
            return _profile(arguments.only, arguments.profile)
        if arguments.counts:
            return _count(arguments.only, renew=arguments.renew)
        return _measure(arguments)
    except (StartError, baseline.BaselineError) as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer runs, one round, a tenth of the runs at work: a first look"
    )
    parser.add_argument("--counts", action="store_true", help="only count, and compare with the baseline")
    parser.add_argument("--profile", type=Path, help="draw where each row spends its time, as SVG into this directory")
    parser.add_argument("--renew", action="store_true", help="write the baseline")
    parser.add_argument("--only", action="append", default=[], help="only rows whose name contains this; repeatable")
    parser.add_argument("--runs", type=int, help="runs in the big database, if there is none of make bench-data")
    parser.add_argument("--rounds", type=int, help="how often each row is measured, at most")
    parser.add_argument("--load", action="store_true", help="load the data that stays (make bench-data)")
    parser.add_argument("--data", type=Path, default=KEPT, help="where the data of make bench-data is")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the figures are written as JSON")
    return parser


# --- Counts -------------------------------------------------------------------------------------------------


def _count(only: Sequence[str], *, renew: bool) -> int:
    committed = {} if renew and not baseline.FILE.exists() else baseline.read()["counts"]
    chosen = [row.name for row in _rows(only) if row.counts]
    counts: dict[str, dict[str, float]] = {}
    failed = False
    with ExitStack() as stack:
        options = cluster.CARELESS | {"enable_seqscan": "off"}
        databases = stack.enter_context(Cluster(options=options))
        worker = stack.enter_context(_worker(SMALL, databases, extent=COUNTING))
        worker.load(LITTLE, dags=40, workflows=200, users=100)
        for name in chosen:
            figures = worker.measure(name, "subject")
            failed |= "error" in figures
            counts[name] = {count: round(figures[count], 2) for count in sorted(figures) if _is_count(count)}
            _say(f"{name}: {figures.get('error') or _listed(counts[name])}")
    if renew and not failed:
        baseline.renew(counts=counts if not only else committed | counts)
        return 0
    return 1 if failed or compare(committed, counts, only) else 0


def _is_count(name: str) -> bool:
    return name not in {"time", "cpu", "error"}


def _listed(counts: dict[str, float]) -> str:
    return ", ".join(f"{number:g} {name}" for name, number in counts.items())


def compare(committed: baseline.Counts, counts: baseline.Counts, only: Sequence[str]) -> bool:
    """Print what has changed. Return whether a count has grown, or a row is gone."""
    found = list(baseline.changes(committed, counts))
    gone = [] if only else baseline.missing(committed, counts)
    for change in found:
        print(f"{'GREW' if change.is_growth else 'fell'}  {change}")
    for row in gone:
        print(f"GONE  {row}")
    if found or gone:
        print("If that is meant: make bench ARGS='--counts --renew' writes benchmarks/baseline.json; commit it.")
    grew = sum(change.is_growth for change in found) + len(gone)
    print(f"{len(counts)} rows counted, {grew} counts grew.")
    return grew > 0


# --- The table ----------------------------------------------------------------------------------------------


def _measure(arguments: argparse.Namespace) -> int:
    options = A_LOOK if arguments.quick else THE_WHOLE
    rounds = arguments.rounds or options.rounds
    measured = [Measured(row) for row in _rows(arguments.only)]
    with ExitStack() as stack:
        is_kept = not arguments.runs and (arguments.data / "data").exists()
        databases = stack.enter_context(Cluster(arguments.data if is_kept else None))
        small = stack.enter_context(_worker(SMALL, databases, extent=options.extent, is_kept=is_kept))
        if not is_kept:
            small.load(LITTLE)
        big = stack.enter_context(_worker(BIG, databases, extent=options.extent, is_kept=is_kept))
        if not is_kept:
            runs = arguments.runs or options.runs
            _say(f"{runs} runs are loaded")
            big.load(runs)
        for one in measured:
            _interleaved(one, small, big, seconds=options.seconds, rounds=min(rounds, one.row.rounds))
            _say(results.markdown([one], {}).splitlines()[-1])
    return _report(arguments, measured)


def _report(arguments: argparse.Namespace, measured: Sequence[Measured]) -> int:
    rows = [one.as_json() for one in measured]
    committed = baseline.read()["table"] if baseline.FILE.exists() else []
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(rows, indent=1) + "\n")
    print(results.markdown(measured, {row["row"]: row for row in committed}))
    if arguments.renew:
        kept = [] if not arguments.only else [row for row in committed if row["row"] not in {r["row"] for r in rows}]
        baseline.renew(table=[*kept, *rows])
    return 1 if any(one.error for one in measured) else 0


def _interleaved(one: Measured, small: Worker, big: Worker, *, seconds: float, rounds: int) -> None:
    """Measure both sides in turn, A B, B A…, until the time is used up. The first round only warms up."""
    sides = [(one.subject, big, "subject")]
    sides += [(one.peer, small, "subject")] if one.row.is_against_small_data else [(one.peer, big, "peer")]
    ends = time.monotonic() + seconds
    for number in range(rounds + 1):
        for kept, worker, side in sides if number % 2 else sides[::-1]:
            figures = worker.measure(one.row.name, side)
            if "error" in figures:
                one.error = figures["error"]
                return
            if number:
                kept.append(figures)
        if number >= FEWEST_ROUNDS and time.monotonic() > ends:
            return


# --- Profiles -----------------------------------------------------------------------------------------------


def _profile(only: Sequence[str], directory: Path) -> int:
    """Draw a flame graph of each row, on a database with little data: a profile shows what Python does."""
    directory.mkdir(parents=True, exist_ok=True)
    failed = False
    with Cluster() as databases, _worker(SMALL, databases) as worker:
        worker.load(LITTLE)
        for row in _rows(only):
            root = worker.profile(row.name, seconds=PROFILED)
            if "error" in root:
                failed = True
                _say(f"{row.name}: {root['error']}")
                continue
            file = directory / f"{re.sub('[^a-z0-9]+', '-', row.name.lower()).strip('-')}.svg"
            file.write_text(flame.svg(root, title=row.name))
            _say(str(file))
    return 1 if failed else 0


# --- Parts --------------------------------------------------------------------------------------------------


def _keep(directory: Path, runs: int) -> int:
    """Load the small and the big database into a cluster that stays."""
    with Cluster(directory) as databases:
        for name, count in ((SMALL, LITTLE), (BIG, runs)):
            if name in databases.databases():
                databases.run(f'DROP DATABASE "{name}"')
            with _worker(name, databases) as worker:
                _say(f"{count} runs are loaded into the {name} database")
                worker.load(count)
    print(f"The data is in {directory}. make bench uses it; remove the directory to be rid of it.")
    return 0


@contextmanager
def _worker(name: str, databases: Cluster, *, extent: str = WHOLE, is_kept: bool = False) -> Iterator[Worker]:
    """Run a worker on a database of this name, which is made if it is not kept."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="svops-bench-")))
        redis = Served("redis", home=home / "redis")
        stack.callback(redis.stop)
        places = Places(database_url=databases.url(name), redis_url=redis.exports["REDIS_URL"], home=home)
        if not is_kept:
            databases.run(f'CREATE DATABASE "{name}"')
        workers.migrate(places.environment(airflow_url=NOWHERE))
        yield stack.enter_context(workers.working(name, places, extent=extent))


def _rows(only: Sequence[str]) -> list[Row]:
    from benchmarks.table.catalogue import read

    return [row for row in read() if not only or any(part.lower() in row.name.lower() for part in only)]


def _say(sentence: str) -> None:
    print(f"{time.monotonic() - BEGAN:6.1f} s  {sentence}", file=sys.stderr, flush=True)


BEGAN = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
