"""Loads runs, their tasks and events, workflows and users with COPY, as skewed as real ones.

    make bench-data ARGS="--runs 5000000"

Few workflows have most of the runs, nearly all runs succeed, and the few stopped ones are the oldest. The same number
of runs gives the same rows, except for their times: the newest run is as old as the load.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.color import no_style
from django.db import connection
from django.db.models import Field, Model
from django.utils import timezone

from accounts.models import Role, User
from benchmarks.table.names import ADMIN, BENCH_DAG, FEW, NAMED, dag_name, owner_of, user_name
from workflows.models import Dag, Event, Grant, LogHead, Run, TaskInstance, Visibility, Workflow

FEW_WORKFLOWS = 3
TASKS_OF_A_WIDE_DAG = 500
EVENTS_PER_RUN = 2
SPAN = timedelta(days=80)
# The oldest runs, of which some are stopped; everywhere else a run fails or succeeds.
OLDEST = 0.1
CHUNK = 5000
# Of the log. Rows about retention put old events before it.
FIRST_POSITION = 1_000_000
# Odd, so that multiplying by it never gives the same number twice; the digits of the golden ratio spread the results.
SPREAD = 0x9E3779B97F4A7C15F39CC0605CEDC835
MANY_RUNS = 100_000  # with more, indexes are made after the load


@dataclass(frozen=True, kw_only=True)
class Size:
    runs: int
    users: int = 1000
    dags: int = 1000
    workflows: int = 5000


def load(size: Size, *, say: Any = lambda _sentence: None) -> None:
    """Fill the empty database. Its tables and the rows of the migrations exist already."""
    now = timezone.now()
    copied = [User, Dag, Workflow, Grant, Run, TaskInstance, Event]
    with connection.cursor() as cursor:
        # Foreign keys are right by construction; checking each would take half of the time.
        cursor.execute("SET session_replication_role = replica")
    with _without_indexes([Run, TaskInstance, Event], size.runs > MANY_RUNS, say):
        _copy(User, _users(size), date_joined=now)
        _copy(Dag, _dags(size), synced_at=now)
        _copy(Workflow, _workflows(size), created_at=now, updated_at=now - timedelta(days=2))
        _copy(Grant, _grants(size), created_at=now)
        say(f"{size.workflows} workflows and {size.users} users are there")
        _copy(Run, _runs(size, now))
        say(f"{size.runs} runs are there")
        _copy(TaskInstance, _tasks(size, now))
        say(f"{size.runs} tasks are there")
        _copy(Event, _events(size, now))
        say(f"{size.runs * EVENTS_PER_RUN} events are there")
    LogHead.objects.update_or_create(pk=1, defaults={"position": FIRST_POSITION + size.runs * EVENTS_PER_RUN})
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = DEFAULT")
        for statement in connection.ops.sequence_reset_sql(no_style(), copied):
            cursor.execute(statement)
        cursor.execute("VACUUM ANALYZE")
        # A new sample in the middle of a run may change a plan.
        for model in copied:
            cursor.execute(f"ALTER TABLE {model._meta.db_table} SET (autovacuum_enabled = false)")
    say("the statistics of the planner are there")


# --- Rows: each is a dict of the columns that differ, in the text format of COPY ----------------------------

Cells = Mapping[str, str]


def _users(size: Size) -> Iterator[Cells]:
    for number in range(1, size.users + 1):
        name = user_name(number)
        is_admin = "t" if name == ADMIN else "f"
        yield {
            "id": str(number),
            "username": name,
            "email": f"{name}@example.com",
            "password": "!",
            "role": Role.ADMIN if name == ADMIN else Role.USER,
            "is_staff": is_admin,
            "is_superuser": is_admin,
        }


def _dags(size: Size) -> Iterator[Cells]:
    """Yield the DAGs. The first of the loaded ones is wide; the last one is the benchmark's own."""
    for number in range(1, size.dags + 1):
        count = TASKS_OF_A_WIDE_DAG if number == 1 else 5
        yield _dag(number, dag_name(number), [f"task_{index}" for index in range(count)])
    yield _dag(size.dags + 1, BENCH_DAG, ["work"])


def graph_of(tasks: list[str]) -> list[dict[str, Any]]:
    """Return the stored graph of tasks in a row."""
    return [
        {
            "task_id": name,
            "downstream_task_ids": tasks[index + 1 : index + 2],
            "operator": "PythonOperator",
            "trigger_rule": "all_success",
            "retries": 0,
            "is_mapped": False,
            "pool": "default_pool",
            "role": None,
            "mapped_group": None,
        }
        for index, name in enumerate(tasks)
    ]


def _dag(number: int, dag_id: str, tasks: list[str]) -> Cells:
    graph = json.dumps(graph_of(tasks))
    return {"id": str(number), "dag_id": dag_id, "tasks": graph, "tags": '["bench"]', "owners": '["airflow"]'}


def _workflows(size: Size) -> Iterator[Cells]:
    """Yield private workflows. Those of the first DAG, which is wide, are 1, 1001… The last one is the benchmark's."""
    for number in range(1, size.workflows + 1):
        yield {
            "id": str(number),
            "name": f"Workflow {number}",
            "dag_id": str((number - 1) % size.dags + 1),
            "owner_id": str(owner_of(number, users=size.users)),
            "visibility": Visibility.PRIVATE,
        }
    last = {"dag_id": str(size.dags + 1), "owner_id": "2", "visibility": Visibility.INTERNAL}
    yield {"id": str(size.workflows + 1), "name": "Bench", **last}


def _grants(size: Size) -> Iterator[Cells]:
    """Yield two grants for each workflow, and a few for `few`, on workflows that have few runs."""
    number = 0
    for workflow in range(1, size.workflows + 1):
        for step in (7, 77):
            number += 1
            user = str(owner_of(workflow + step, users=size.users))
            yield {"id": str(number), "workflow_id": str(workflow), "user_id": user, "level": "run"}
    for workflow in range(size.workflows - FEW_WORKFLOWS + 1, size.workflows + 1):
        number += 1
        yield {"id": str(number), "workflow_id": str(workflow), "user_id": str(NAMED.index(FEW) + 1), "level": "view"}


def run_id(number: int) -> str:
    """Return the id of the run with this number; the highest number is the newest run."""
    text = f"{number * SPREAD % 2**128:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def workflow_of(number: int, size: Size) -> int:
    """Return the workflow of the run with this number. A third power: the first of 5,000 has 6% of the runs."""
    chance = (number * SPREAD % 2**61) / 2**61
    return int(size.workflows * chance**3) + 1


def state_of(number: int, size: Size) -> str:
    if number < size.runs * OLDEST and number % 97 == 0:
        return "stopped"
    return "failed" if number % 41 == 0 else "success"


def _runs(size: Size, now: datetime) -> Iterator[Cells]:
    for number in range(1, size.runs + 1):
        workflow, own = workflow_of(number, size), run_id(number)
        created = _created(number, size, now)
        begun = created.isoformat()
        yield {
            "id": own,
            "workflow_id": str(workflow),
            "dag_id": dag_name((workflow - 1) % size.dags + 1),
            "dag_run_id": f"svops__{own}",
            "state": state_of(number, size),
            "user_id": str(owner_of(workflow, users=size.users)),
            "task_id": f'"task-{number // 10}"',
            "dataset_id": str(number // 1000),
            "note": f"nightly load {number}" if number % 3 else "",
            "event_count": str(EVENTS_PER_RUN),
            "created_at": begun,
            "queued_at": begun,
            "started_at": begun,
            "ended_at": (created + timedelta(seconds=number % 600)).isoformat(),
            "observed_at": begun,
        }


def _created(number: int, size: Size, now: datetime) -> datetime:
    return now - SPAN * ((size.runs - number) / size.runs) - timedelta(hours=1)


def _tasks(size: Size, now: datetime) -> Iterator[Cells]:
    for number in range(1, size.runs + 1):
        created = _created(number, size, now)
        yield {
            "id": str(number),
            "run_id": run_id(number),
            "task_id": "task_0",
            "state": "success",
            "try_number": "1",
            "operator": "PythonOperator",
            "started_at": created.isoformat(),
            "ended_at": (created + timedelta(seconds=number % 600)).isoformat(),
        }


ENDINGS = {"success": "workflow.completed", "failed": "workflow.failed", "stopped": "workflow.stopped"}


def _events(size: Size, now: datetime) -> Iterator[Cells]:
    """Yield the trigger and the end of each run. Other types are rare: the log has none of them."""
    for number in range(1, size.runs + 1):
        workflow, own, state = workflow_of(number, size), run_id(number), state_of(number, size)
        created = _created(number, size, now).isoformat()
        common = {
            "run_id": own,
            "workflow_id": str(workflow),
            "user_id": str(owner_of(workflow, users=size.users)),
            "timestamp": created,
        }
        data = f'{{"attempt":1,"state":"{state}","duration_s":{number % 600}}}'
        for seq, kind in enumerate(("workflow.triggered", ENDINGS[state]), 1):
            position = str(FIRST_POSITION + (number - 1) * EVENTS_PER_RUN + seq)
            yield {"id": position, "position": position, "seq": str(seq), "type": kind, "data": data, **common}


# --- COPY ---------------------------------------------------------------------------------------------------


def _copy(model: type[Model], rows: Iterable[Cells], **constants: datetime) -> None:
    """Copy the rows. Columns that no row names get `constants`, or the default of their field."""
    rows = iter(rows)
    first = next(rows)
    fields = [field for field in model._meta.concrete_fields if not getattr(field, "generated", False)]
    rest = [field for field in fields if field.column not in first and not field.primary_key]
    columns = [*first, *(field.column for field in rest)]
    constant = "".join(f"\t{_text(constants.get(field.name, field.get_default()), field)}" for field in rest) + "\n"
    names = ", ".join(f'"{column}"' for column in columns)
    with connection.cursor() as cursor, cursor.copy(f'COPY "{model._meta.db_table}" ({names}) FROM STDIN') as copy:
        chunk = ["\t".join(first.values()) + constant]
        for row in rows:
            chunk.append("\t".join(row.values()) + constant)
            if len(chunk) == CHUNK:
                copy.write("".join(chunk))
                chunk = []
        copy.write("".join(chunk))


def _text(value: object, field: Field[Any, Any]) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value)
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return r"\N" if value is None else str(value)


@contextmanager
def _without_indexes(models: list[type[Model]], really: bool, say: Any) -> Iterator[None]:
    """Drop the indexes of these tables meanwhile, except for primary keys: making one at the end is quicker."""
    tables = [model._meta.db_table for model in models]
    if not really:
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conname, conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE contype = 'u' AND conrelid = ANY(%s::regclass[])",
            [tables],
        )
        uniques = cursor.fetchall()
        for name, table, _ in uniques:
            cursor.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"')
        cursor.execute(
            "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
            " WHERE indrelid = ANY(%s::regclass[]) AND NOT indisprimary",
            [tables],
        )
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f"DROP INDEX {name}")
    yield
    with connection.cursor() as cursor:
        for name, table, definition in uniques:
            cursor.execute(f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {definition}')
        for _, definition in indexes:
            cursor.execute(definition)
    say(f"{len(uniques) + len(indexes)} indexes are there")
