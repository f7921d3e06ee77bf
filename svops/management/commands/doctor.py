from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand
from django.db import DatabaseError
from rich.console import Console
from rich.table import Table

from rest.masking import mask
from svops.doctor.examination import examine, summary
from svops.doctor.findings import Finding, Outcome, Progress, grouped
from workflows.management.base import named_airflow

STYLES = {
    Outcome.WORKS: "green",
    Outcome.MISSING: "bold red",
    Outcome.WRONG: "bold red",
    Outcome.ABSENT: "dim",
    Outcome.UNTRIED: "yellow",
}


class Command(BaseCommand):
    help = (
        "Check everything that SVOps needs: each call to Airflow with its right, clocks, the listener, the DAGs, "
        "database, Redis, mail, receivers. Exits with 1 if something is missing, else 0. Only --dag changes things."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--airflow", default="", metavar="NAME", help="Which Airflow (by default: every active one)."
        )
        parser.add_argument(
            "--dag",
            default="",
            metavar="DAG_ID",
            help="Start a real run of this DAG (of the default Airflow if none is named), wait for its push, stop it.",
        )
        output = parser.add_mutually_exclusive_group()
        output.add_argument("--json", action="store_true", help="Print a JSON object, for programs.")
        output.add_argument("--short", action="store_true", help="Print one line.")

    def handle(self, *args: Any, **options: Any) -> None:
        airflow = _named(options)
        with _progress() as progress:
            findings = list(examine(airflow=airflow, dag_id=options["dag"], progress=progress))
        problems = [finding for finding in findings if finding.is_problem]
        if options["json"]:
            shown = {"ok": not problems, "findings": [finding.as_json() for finding in findings]}
            self.stdout.write(json.dumps(shown, indent=2))
        elif options["short"]:
            self.stdout.write(summary(findings))
        else:
            _print(findings)
            self.stdout.write(summary(findings))
        if problems:
            sys.exit(1)


def _named(options: Mapping[str, Any]) -> str:
    try:
        return named_airflow(options) if options["airflow"] else ""
    except DatabaseError:
        return str(options["airflow"])  # a row says that the database is down


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show on a terminal what is being checked."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("Checking") as status:
        yield lambda what: status.update(f"Checking {what}")


def _print(findings: list[Finding]) -> None:
    console = Console()
    for title, rows in grouped(findings).items():
        table = Table(title=title, title_justify="left", title_style="bold", expand=True, show_edge=False)
        for name, ratio in (("check", 3), ("", 2), ("ms", 1), ("found", 6)):
            table.add_column(name, ratio=ratio, justify="right" if name == "ms" else "left", overflow="fold")
        for one in rows:
            word = str(one.outcome) if one.needed or one.outcome == Outcome.WORKS else f"({one.outcome})"
            text = "\n".join(filter(None, (mask(one.found), mask(one.mend))))
            style = STYLES[one.outcome] if one.is_problem or one.outcome == Outcome.WORKS else "yellow"
            ms = f"{one.ms:.0f}" if one.ms is not None else ""
            table.add_row(one.check, f"[{style}]{word}[/]", ms, text.replace("[", r"\["))
        console.print(table)
        console.print()
