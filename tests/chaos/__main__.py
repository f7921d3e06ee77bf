"""`python -m tests.chaos [--minutes 5] [--seed 1] [--airflows 2] …`: exits with 0 if no promise was broken."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from tests.chaos.clients import Site
from tests.chaos.journal import Journal
from tests.chaos.receiver import Receiver
from tests.chaos.side import DAG_IDS, NAMES, Side
from tests.chaos.stand import Stand

if TYPE_CHECKING:
    from tests.chaos.round import Round
    from workflows.models import Run

console = Console(highlight=False, soft_wrap=True)
TYPES = ["workflow_triggered", "workflow_completed", "workflow_failed", "workflow_stopped"]
STORIES = 10


def main() -> int:
    options = _parser().parse_args()
    # So that nothing it has started outlives it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A pipe or a file shows each line at once too.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    folder = Path(tempfile.mkdtemp(prefix="svops-chaos-"))
    stand = Stand(folder, NAMES[: options.airflows])
    rounds: list[Round] = []
    try:
        stand.start(_say)
        _set_django_up()
        receiver = Receiver(seed=options.seed)
        workflows = _workflows(stand, receiver)
        seeds = range(options.seed, options.seed + options.seeds)
        rounds.extend(_round(stand, workflows, receiver, seed=seed, minutes=options.minutes) for seed in seeds)
    finally:
        stand.stop()
        if options.keep:
            console.print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    _summarize(rounds, minutes=options.minutes)
    return 1 if any(one.violations for one in rounds) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="of faults for each seed")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="the first one")
    parser.add_argument("--seeds", type=int, default=1, help="how many, one after the other on the same platform")
    parser.add_argument(
        "--airflows", type=int, default=1, choices=range(1, len(NAMES) + 1), help="how many there are behind SVOps"
    )
    parser.add_argument("--keep", action="store_true", help="keep the logs")
    return parser


def _say(text: str) -> None:
    console.print(f"  {time.strftime('%H:%M:%S')} {text}", style="dim", markup=False)


def _set_django_up() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "svops.settings"
    import django

    django.setup()


def _round(
    stand: Stand, workflows: dict[str, dict[str, int]], receiver: Receiver, *, seed: int, minutes: float
) -> Round:
    from tests.chaos.round import Round

    console.print(f"[bold]seed {seed}[/], {minutes:g} minutes")
    one = Round(stand, workflows, receiver, seed=seed, seconds=minutes * 60, say=_say)
    one.run()
    _report(one)
    return one


def _workflows(stand: Stand, receiver: Receiver) -> dict[str, dict[str, int]]:
    """Add the further Airflows, a workflow over each DAG of each, and a webhook that hears of every run.

    Return the workflows by Airflow and DAG.
    """
    site = Site(stand.url, Journal(), actor="set-up")
    for side in stand.sides[1:]:
        _ask(site, "/airflows", side.row())
    body = {"name": "chaos", "channel": "webhook", "url": receiver.url, "for_everyone": True}
    _ask(site, "/notifications/configs", {**body, "notification_types": TYPES})
    return {side.name: _workflows_on(side, site) for side in stand.sides}


def _workflows_on(side: Side, site: Site) -> dict[str, int]:
    _ask(site, f"/dags/sync?airflow={side.name}", {})
    bodies = [{"name": f"{side.prefix} {dag_id}", "airflow": side.name, "dag_id": dag_id} for dag_id in DAG_IDS]
    return {body["dag_id"]: _ask(site, "/workflows", body)["id"] for body in bodies}


def _ask(site: Site, path: str, body: object) -> dict[str, int]:
    end = time.monotonic() + 120
    answer = site.ask("POST", path, body)
    # The worker may be syncing the DAGs right now.
    while answer is not None and answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE and time.monotonic() < end:
        time.sleep(1)
        answer = site.ask("POST", path, body)
    if answer is None or not answer.ok:
        raise RuntimeError(f"{path}: {answer.text if answer is not None else 'no answer'}")
    found: dict[str, int] = answer.json()
    return found


def _report(one: Round) -> None:
    table = Table("what", "how many", title=f"seed {one.seed}, {'with' if one.listens else 'without'} the listener")
    faults = Counter(f"{fault.kind} {fault.target}" for fault in one.journal.injected())
    by_itself = Counter(f"{fault.kind}: {fault.target}" for fault in one.journal.faults if not fault.injected)
    rows = {
        "runs": len(one.runs),
        **{f"of these in {name}": count for name, count in sorted(Counter(map(_airflow, one.runs)).items())},
        "of these started in Airflow": sum(run.trigger_type == "external" for run in one.runs),
        **{f"runs {state}": count for state, count in sorted(Counter(run.state for run in one.runs).items())},
        "task instances": one.tasks,
        "requests": len(one.journal.entries),
        "answers": dict(sorted(Counter(entry.status for entry in one.journal.entries).items())),
        **{f"  {name}": count for name, count in one.journal.done().items()},
        "faults": faults.total(),
        **{f"  {name}": count for name, count in sorted(faults.items())},
        **{f"  not injected: {name}": count for name, count in sorted(by_itself.items())},
        "seconds to rest": f"{one.rested_after:.0f}",
        "violations": len(one.violations),
    }
    for name, value in rows.items():
        table.add_row(name, str(value))
    console.print(table)
    for promise, count in Counter(violation.promise for violation in one.violations).most_common():
        console.print(f"[red]{count} x[/] {promise}")
    for violation in one.violations[:40]:
        console.print(
            f"VIOLATION {violation.promise}: {violation.detail} {violation.run_id} (seed {one.seed})", markup=False
        )
    for run_id, lines in list(one.stories.items())[:STORIES]:
        console.print(f"the story of run {run_id} (seed {one.seed}):")
        for line in lines:
            console.print(f"    {line}", markup=False, style="dim")


def _airflow(run: Run) -> str:
    return run.airflow_name


def _summarize(rounds: list[Round], *, minutes: float) -> None:
    table = Table(
        "seed", "minutes", "listener", "runs", "task instances", "faults", "killed", "frozen", "wires", "violations"
    )
    for one in rounds:
        kinds = Counter(fault.kind for fault in one.journal.injected())
        wires = kinds["cut"] + kinds["delay"] + kinds["refuse"]
        values = (one.seed, f"{minutes:g}", "on" if one.listens else "off", len(one.runs), one.tasks)
        counts = (kinds.total(), kinds["kill -9"], kinds["freeze"], wires, len(one.violations))
        table.add_row(*map(str, (*values, *counts)))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
