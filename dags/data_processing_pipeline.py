"""### Data processing pipeline

A shop's orders on their way into a database. `extract` writes an export with a known share of bad rows,
`transform` rejects those and converts the rest to euro cents, `load` fills an SQLite database, and
`validate` compares the three results.

| parameter | what it does |
| --- | --- |
| `rows`, `seed` | how many orders, and which ones: the same pair makes the same export |
| `error_rate` | share of the orders to which `extract` adds a defect |
| `max_rejected` | share of rejected rows above which `validate` fails the run |
| `processing_time` | seconds that the four tasks wait in total, besides their own work |
| `fail_task` | this task fails on purpose; a retry of the run succeeds |

Files are kept in one folder per run, `svops-data_processing_pipeline/<run>` in `SVOPS_DATA_DIR`. A later run removes
folders that are a week old. Without the variable, the folder is `svops-<uid>` in the system's temporary folder. If
tasks run on several machines, `SVOPS_DATA_DIR` must be a shared folder.
If the run's `conf` has the caller's own `task_id` and `dataset_id`, each task logs them.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import logging
import os
import random
import re
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from contextlib import closing
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pendulum

try:  # Airflow 3
    from airflow.sdk import Param, dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task
    from airflow.models.param import Param

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

log = logging.getLogger("airflow.task")

DAG_ID = "data_processing_pipeline"
TASK_IDS = ("extract", "transform", "load", "validate")
COLUMNS = ("order_id", "day", "customer", "country", "amount", "currency")
CURRENCY_OF = {"AT": "EUR", "CH": "CHF", "DE": "EUR", "GB": "GBP", "PL": "PLN"}
EUROS_FOR_ONE = {"EUR": Decimal(1), "CHF": Decimal("1.06"), "GBP": Decimal("1.17"), "PLN": Decimal("0.23")}
FIRST_DAY = date(2026, 1, 1)
DEFECTS = ("no_customer", "bad_day", "bad_amount", "unknown_currency", "duplicate")
KEEP_DAYS = 7

PARAMS = {
    "rows": Param(
        20_000,
        type="integer",
        minimum=100,
        maximum=500_000,
        title="Rows",
        description="Orders in the export.",
    ),
    "seed": Param(
        7, type="integer", minimum=0, title="Seed", description="The same seed and rows make the same export."
    ),
    "error_rate": Param(
        0.02,
        type="number",
        minimum=0,
        maximum=0.5,
        title="Error rate",
        description="Share of the orders that have a defect in the export.",
    ),
    "max_rejected": Param(
        0.1,
        type="number",
        minimum=0,
        maximum=1,
        title="Most rejected",
        description="Share of rejected rows above which `validate` fails the run.",
    ),
    "processing_time": Param(
        140,
        type="number",
        minimum=0,
        maximum=3600,
        title="Processing time",
        description="Seconds that the four tasks wait in total, besides their own work.",
    ),
    "fail_task": Param(
        None,
        type=["null", "string"],
        enum=[None, *TASK_IDS],
        title="Task that fails",
        description=(
            "This task fails on purpose in the first attempt of the run; a retry of the run succeeds. With null, all "
            "tasks succeed."
        ),
    ),
}


class RequestedFailureError(RuntimeError):
    """The parameters of the run ask this task to fail."""


class ValidationFailedError(RuntimeError):
    """The loaded data contradicts its source."""


def begin(context: Mapping[str, Any]) -> Mapping[str, Any]:
    """Log the caller's references and return the parameters. Raise if this task has to fail."""
    conf = context["dag_run"].conf or {}
    for name in ("task_id", "dataset_id"):
        if name in conf:
            log.info("caller's %s: %r", name, conf[name])
    params: Mapping[str, Any] = context["params"]
    task_id = context["ti"].task_id
    if params["fail_task"] == task_id and is_first_attempt(context["dag_run"], context["ti"]):
        raise RequestedFailureError(f"task {task_id!r} fails because the parameter fail_task names it")
    return params


def is_first_attempt(dag_run: Any, ti: Any) -> bool:
    """Return whether no task of the run has been cleared yet; a retry clears tasks."""
    cleared = getattr(dag_run, "clear_number", None)
    return ti.try_number <= 1 if cleared is None else cleared == 0


def run_folder(run_id: str) -> Path:
    """Return the folder of the run. A task that runs again gets the same one."""
    # The digest separates ids that differ only in characters that a file name should not have.
    digest = hashlib.sha256(run_id.encode()).hexdigest()[:8]
    name = f"{re.sub(r'[^A-Za-z0-9_-]+', '_', run_id)[:100]}-{digest}"
    folder = data_folder() / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def data_folder() -> Path:
    """Return the parent of the folders of all runs. By default, users do not share it."""
    root = os.environ.get("SVOPS_DATA_DIR") or Path(tempfile.gettempdir()) / f"svops-{os.getuid()}"
    folder = Path(root) / f"svops-{DAG_ID}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def forget_old_runs() -> None:
    """Remove the folders of runs that have not changed for a week."""
    for folder in data_folder().iterdir():
        # Another run may remove the same folder at the same moment.
        with contextlib.suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime > KEEP_DAYS * 24 * 3600:
                shutil.rmtree(folder, ignore_errors=True)


def paced(items: Iterable[Any], *, total: int, seconds: float, what: str) -> Iterator[Any]:
    """Yield `total` items over `seconds` or longer, with a line of progress about once a second."""
    begun = said = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        due = begun + seconds * number / total
        while True:
            now = time.monotonic()
            if now - said >= 1:
                log.info("%s: %d of %d (%.0f %%)", what, number, total, 100 * number / total)
                said = now
            # Rows are shorter than a sleep can be: run ahead a little, except at the end.
            if due - now <= (0.1 if number < total else 0):
                break
            time.sleep(min(1.0, due - now))
    log.info("%s: %d done in %.1f s", what, total, time.monotonic() - begun)


def make_orders(*, rows: int, seed: int, error_rate: float) -> Iterator[dict[str, str]]:
    """Yield orders as a shop exports them. The share `error_rate` of them has one defect each."""
    chance = random.Random(seed)  # noqa: S311 - sample data, not a secret
    # The first order stays valid, because duplicates repeat it.
    bad = set(chance.sample(range(1, rows), round(rows * error_rate)))
    for number in range(rows):
        order = _order(number, chance)
        yield with_defect(order, defect=chance.choice(DEFECTS)) if number in bad else order


def _order(number: int, chance: random.Random) -> dict[str, str]:
    country = chance.choice(sorted(CURRENCY_OF))
    return {
        "order_id": str(number + 1),
        "day": (FIRST_DAY + timedelta(days=chance.randrange(90))).isoformat(),
        "customer": f"C{chance.randrange(1, 2000):04d}",
        "country": country,
        "amount": f"{chance.randrange(100, 50_000) / 100:.2f}",
        "currency": CURRENCY_OF[country],
    }


def with_defect(order: dict[str, str], *, defect: str) -> dict[str, str]:
    """Return the order with this defect; `duplicate` repeats the number of the first order."""
    changed = {
        "no_customer": {"customer": ""},
        "bad_day": {"day": "2026-02-30"},
        "bad_amount": {"amount": "-" + order["amount"]},
        "unknown_currency": {"currency": "XXX"},
        "duplicate": {"order_id": "1"},
    }
    return {**order, **changed[defect]}


def defect_of(order: Mapping[str, str], *, seen: set[str]) -> str | None:
    """Return the defect of an order, given the numbers of all orders before it."""
    if order["order_id"] in seen:
        return "duplicate"
    if not order["customer"]:
        return "no_customer"
    if order["currency"] not in EUROS_FOR_ONE:
        return "unknown_currency"
    if not _is_day(order["day"]):
        return "bad_day"
    return None if _is_price(order["amount"]) else "bad_amount"


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_price(text: str) -> bool:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return False
    return amount.is_finite() and amount > 0


def clean(order: Mapping[str, str]) -> dict[str, str]:
    """Return the order with its price in euro cents."""
    euros = Decimal(order["amount"]) * EUROS_FOR_ONE[order["currency"]]
    kept = {name: order[name] for name in ("order_id", "day", "customer", "country")}
    return {**kept, "eur_cents": str(round(euros * 100))}


def write_csv(path: Path, orders: Iterable[Mapping[str, str]], *, columns: Iterable[str]) -> int:
    """Write the orders and return how many. The file appears only when it is complete."""
    unfinished = path.with_suffix(".part")
    count = 0
    with unfinished.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(columns))
        writer.writeheader()
        for count, order in enumerate(orders, start=1):  # noqa: B007 - the last one is the answer
            writer.writerow(order)
    unfinished.replace(path)
    return count


def read_csv(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="") as file:
        yield from csv.DictReader(file)


def sort_out(orders: Iterable[Mapping[str, str]], *, rejected: list[dict[str, str]]) -> Iterator[dict[str, str]]:
    """Yield the valid orders, cleaned. Add the others, with the reason, to the list `rejected`."""
    seen: set[str] = set()
    for order in orders:
        defect = defect_of(order, seen=seen)
        seen.add(order["order_id"])
        if defect:
            rejected.append({**order, "defect": defect})
        else:
            yield clean(order)


def transform_file(raw: Path, *, accepted: Path, rejected: Path, rows: int, seconds: float = 0) -> dict[str, Any]:
    """Split the export into accepted and rejected orders. Return how many of each, and the defects."""
    bad: list[dict[str, str]] = []
    orders = paced(read_csv(raw), total=rows, seconds=seconds, what="transform")
    columns = ("order_id", "day", "customer", "country", "eur_cents")
    count = write_csv(accepted, sort_out(orders, rejected=bad), columns=columns)
    write_csv(rejected, bad, columns=(*COLUMNS, "defect"))
    defects = Counter(order["defect"] for order in bad)
    return {"accepted": count, "rejected": len(bad), "defects": dict(sorted(defects.items()))}


def load_file(accepted: Path, *, database: Path, rows: int, seconds: float = 0) -> int:
    """Fill a new database with the orders, in one transaction. Return how many it holds."""
    database.unlink(missing_ok=True)
    orders = paced(read_csv(accepted), total=max(rows, 1), seconds=seconds, what="load")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "CREATE TABLE orders (order_id INTEGER PRIMARY KEY, day TEXT NOT NULL, customer TEXT NOT NULL,"
            " country TEXT NOT NULL, eur_cents INTEGER NOT NULL)"
        )
        connection.executemany("INSERT INTO orders VALUES (:order_id, :day, :customer, :country, :eur_cents)", orders)
        (count,) = connection.execute("SELECT count(*) FROM orders").fetchone()
    return int(count)


def findings(*, raw: Path, accepted: Path, database: Path, rejected: int, max_rejected: float) -> dict[str, str]:
    """Check the database against its source files. Return each failed check with its numbers."""
    extracted = sum(1 for _ in read_csv(raw))
    cents = sum(int(order["eur_cents"]) for order in read_csv(accepted))
    with closing(sqlite3.connect(database)) as connection:
        loaded, total, worthless = connection.execute(
            "SELECT count(*), coalesce(sum(eur_cents), 0), count(*) FILTER (WHERE eur_cents <= 0) FROM orders"
        ).fetchone()
    found = {
        "no row is lost": (loaded + rejected == extracted, f"{loaded} + {rejected} of {extracted} rows"),
        "the turnover agrees": (total == cents, f"{total} cents loaded, {cents} in the file"),
        "every order is worth something": (worthless == 0, f"{worthless} are not"),
        "few rows are rejected": (rejected <= max_rejected * extracted, f"{rejected} of {extracted} rows"),
    }
    for check, (holds, numbers) in found.items():
        log.info("validate: %s: %s (%s)", check, "yes" if holds else "NO", numbers)
    return {check: numbers for check, (holds, numbers) in found.items() if not holds}


def turnover(database: Path) -> dict[str, int]:
    """Euro cents per country."""
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT country, sum(eur_cents) FROM orders GROUP BY country ORDER BY country")
        return dict(rows.fetchall())


@dag(
    dag_id=DAG_ID,
    description="Orders from an export with defects into a checked database",
    doc_md=__doc__,
    schedule=None,
    start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"retries": 0},
    params=PARAMS,
    tags=["svops", "example"],
)
def data_processing_pipeline() -> None:
    # Each task returns the report of the tasks before it, with its own lines added.

    @task(multiple_outputs=False)
    def extract(**context: Any) -> dict[str, Any]:
        params = begin(context)
        forget_old_runs()
        rows = int(params["rows"])
        raw = run_folder(context["run_id"]) / "orders.csv"
        orders = make_orders(rows=rows, seed=int(params["seed"]), error_rate=params["error_rate"])
        seconds = params["processing_time"] / len(TASK_IDS)
        write_csv(raw, paced(orders, total=rows, seconds=seconds, what="extract"), columns=COLUMNS)
        return {"raw": str(raw), "extracted": rows}

    @task(multiple_outputs=False)
    def transform(report: dict[str, Any], **context: Any) -> dict[str, Any]:
        params = begin(context)
        raw = Path(report["raw"])
        files = {"accepted": raw.with_name("accepted.csv"), "rejected": raw.with_name("rejected.csv")}
        seconds = params["processing_time"] / len(TASK_IDS)
        counts = transform_file(raw, **files, rows=report["extracted"], seconds=seconds)
        log.info("transform: %(accepted)d accepted, %(rejected)d rejected %(defects)s", counts)
        return {
            **report,
            **counts,
            "accepted_file": str(files["accepted"]),
            "rejected_file": str(files["rejected"]),
        }

    @task(multiple_outputs=False)
    def load(report: dict[str, Any], **context: Any) -> dict[str, Any]:
        params = begin(context)
        accepted = Path(report["accepted_file"])
        database = accepted.with_name("orders.sqlite3")
        seconds = params["processing_time"] / len(TASK_IDS)
        loaded = load_file(accepted, database=database, rows=report["accepted"], seconds=seconds)
        return {**report, "loaded": loaded, "database": str(database)}

    @task(multiple_outputs=False)
    def validate(report: dict[str, Any], **context: Any) -> dict[str, Any]:
        params = begin(context)
        database = Path(report["database"])
        failed = findings(
            raw=Path(report["raw"]),
            accepted=Path(report["accepted_file"]),
            database=database,
            rejected=report["rejected"],
            max_rejected=params["max_rejected"],
        )
        seconds = params["processing_time"] / len(TASK_IDS)
        countries = turnover(database)
        for country in paced(countries, total=len(countries), seconds=seconds, what="validate"):
            log.info("validate: turnover %s %.2f EUR", country, countries[country] / 100)
        whole = {**report, "turnover_eur_cents": countries, "failed_checks": failed}
        database.with_name("report.json").write_text(json.dumps(whole, indent=2))
        if failed:
            raise ValidationFailedError("; ".join(f"not true that {name}: {why}" for name, why in failed.items()))
        return whole

    validate(load(transform(extract())))


data_processing_pipeline()
