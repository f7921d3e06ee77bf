"""What the rows use: a database with its users, workflows and runs, the scripted Airflow, and a client of the API."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.utils import timezone

from accounts import services as accounts
from accounts.models import User
from benchmarks.table import workers
from benchmarks.table.airflow import Json, dag_json, run_json
from benchmarks.table.airflow_life import task_json
from benchmarks.table.counters import Counters
from benchmarks.table.names import ADMIN, BENCH_DAG
from benchmarks.table.row import BYTES, COUNTING, QUICK, REQUESTS
from notifications.models import NotificationConfig
from workflows import gateway
from workflows.models import Airflow, Run, TaskInstance, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState

ANSWER_BYTES = "answer bytes"
PAGES = "pages of the admin"
START_TIMEOUT = 90.0  # seconds


class ScriptedAirflow:
    """The scripted Airflow of this worker, in its own process."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()

    def control(self, **order: Any) -> Json:
        answer = self._session.post(f"{self.url}/control", json=order, timeout=60)
        answer.raise_for_status()
        counts: Json = answer.json()
        return counts


class Stage:
    """One database, `small` or `big`. What a row makes here is removed before the next one."""

    def __init__(self, *, name: str, extent: str, counters: Counters) -> None:
        self.name = name
        self.is_counting = extent == COUNTING
        self._is_quick = extent == QUICK
        self.counters = counters
        self.many = 1
        self.airflow = ScriptedAirflow(os.environ["AIRFLOW_URL"])
        self._clients: dict[str, Client] = {}
        self._ids = itertools.count()

    def size(self, full: int, counted: int) -> int:
        """Return how many of something a row uses: fewer for the gate, which only counts, and in a quick run."""
        if self.is_counting:
            return counted
        return full // 10 if self._is_quick else full

    def user(self, username: str = ADMIN) -> User:
        return User.objects.get(username=username)

    def client(self, username: str = ADMIN) -> Client:
        """Return a client that is signed in."""
        if username not in self._clients:
            self._clients[username] = self.new_client(username)
        return self._clients[username]

    def get(self, path: str, *, username: str = ADMIN) -> Any:
        """GET a path of the API, count the bytes of the answer, and return its JSON."""
        return json.loads(self.body(path, username=username))

    def body(self, path: str, *, username: str = ADMIN) -> bytes:
        answer = self.client(username).get(path)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.content[:300]!r}"
        content: bytes = answer.getvalue()
        self.counters.add(ANSWER_BYTES, len(content))
        return content

    def page(self, path: str) -> None:
        """GET a page of the admin as an administrator who has signed in there."""
        if PAGES not in self._clients:
            self._clients[PAGES] = Client()
            self._clients[PAGES].force_login(self.user())
        answer = self._clients[PAGES].get(path)
        assert answer.status_code == 200, f"{path}: {answer.status_code}"
        self.counters.add(ANSWER_BYTES, len(answer.getvalue()))

    def new_client(self, username: str) -> Client:
        """Return a client that is signed in, for one thread."""
        token = accounts.sign_in(user=self.user(username)).access_token
        return Client(headers={"Authorization": f"Bearer {token}"})

    def post(self, path: str, body: object, *, username: str = ADMIN) -> Any:
        answer = self.client(username).post(path, data=json.dumps(body), content_type="application/json")
        assert answer.status_code < 300, f"{path}: {answer.status_code} {answer.content[:300]!r}"
        return answer.json()

    # --- Runs -----------------------------------------------------------------------------------------------

    @property
    def workflow(self) -> Workflow:
        """The workflow of the runs below, over a DAG with one task. The loaded runs belong to others."""
        return Workflow.objects.select_related("dag", "owner").filter(dag__dag_id=BENCH_DAG).earliest("pk")

    def active_runs(self, count: int, *, tasks: int = 1, workflow: Workflow | None = None) -> list[Run]:
        """Create runs that are running here and in Airflow, each with `tasks` running tasks named `work`, `work_1`…"""
        workflow = workflow or self.workflow
        begun = timezone.now() - timedelta(minutes=5)
        runs = Run.objects.bulk_create([self._running(workflow, begun) for _ in range(count)], batch_size=1000)
        names = ["work", *(f"work_{number}" for number in range(1, tasks))][:tasks]
        TaskInstance.objects.bulk_create(
            [self._task(run, name, begun) for run in runs for name in names], batch_size=5000
        )
        start = begun.astimezone(UTC).isoformat()
        self.airflow.control(
            runs=[run_json(run.dag_id, run.dag_run_id, "running", start=start) | {"updated_at": start} for run in runs],
            tasks=[
                self.in_airflow(run, name, "running", start=start, updated_at=start) for run in runs for name in names
            ],
        )
        return runs

    def _running(self, workflow: Workflow, begun: datetime) -> Run:
        run_id = uuid.UUID(int=(1 << 127) + next(self._ids))
        return Run(
            id=run_id,
            workflow=workflow,
            dag_id=workflow.dag.dag_id,
            dag_run_id=f"svops__{run_id}",
            state=RunState.RUNNING,
            user=workflow.owner,
            created_at=begun,
            queued_at=begun,
            started_at=begun,
            observed_at=begun,
        )

    @staticmethod
    def _task(run: Run, name: str, begun: datetime) -> TaskInstance:
        return TaskInstance(
            run=run,
            task_id=name,
            instance_id=instance_id(run, name),
            state="running",
            try_number=1,
            operator="PythonOperator",
            started_at=begun,
            start_recorded=True,
            recorded_from=1,
        )

    @staticmethod
    def in_airflow(
        run: Run, name: str, state: str, *, start: str, end: str | None = None, index: int = -1, **others: Any
    ) -> Json:
        """Return Airflow's row of a task of the run."""
        row = task_json(run.dag_id, run.dag_run_id, name, state, start=start, end=end)
        return row | {"id": instance_id(run, name, index), "map_index": index, **others}

    def end_in_airflow(self, runs: Iterable[Run], *, tasks: Sequence[str] = ("work",)) -> None:
        """Let the runs and their tasks succeed in Airflow, now."""
        end, ended = timezone.now().isoformat(), list(runs)
        start = {run.pk: run.started_at.isoformat() if run.started_at else end for run in ended}
        self.airflow.control(
            runs=[run_json(r.dag_id, r.dag_run_id, "success", start=start[r.pk], end=end) for r in ended],
            tasks=[self.in_airflow(r, name, "success", start=start[r.pk], end=end) for r in ended for name in tasks],
        )

    def forget_runs_in_airflow(self) -> None:
        self.airflow.control(forget=True)

    @contextmanager
    def platform(self) -> Iterator[None]:
        """Run a Celery worker and beat meanwhile, as the platform does. They have polled Airflow once at first."""
        begun, ends = timezone.now(), time.monotonic() + START_TIMEOUT
        with ExitStack() as stack:
            for command in workers.PLATFORM:
                stack.enter_context(workers.started(command, os.environ, stdout=sys.stderr))
            while not Airflow.objects.filter(name=DEFAULT, looked_at__gt=begun).exists():
                assert time.monotonic() < ends, "the Celery worker does not start"
                time.sleep(0.1)
            yield

    def airflow_answers(self, *, looked_at: datetime | None = None) -> None:
        """Let Airflow be known as reachable, and polled up to now. Nobody has changed a workflow lately."""
        now = looked_at or timezone.now()
        old = now - timedelta(days=1)
        Workflow.objects.filter(updated_at__gt=old).update(updated_at=old)
        Airflow.default()
        Airflow.objects.update(
            reachable=True, version="3.3.2", looked_at=now, swept_at=now, leased_until=None, dispatch_leased_until=None
        )
        gateway.breaker(DEFAULT).close()

    def clear(self) -> None:
        """Remove what the row before has made, here and in Airflow."""
        self.airflow.control(reset=True, delay=0.0, down=False, dags=self._dags())
        NotificationConfig.objects.all().delete()
        with connection.cursor() as cursor:
            runs = f"SELECT id FROM workflows_run WHERE dag_id = '{BENCH_DAG}'"  # noqa: S608 - our own name
            for statement in deletions(Run, runs):
                cursor.execute(statement)
        self.airflow_answers()

    def _dags(self) -> dict[str, Json]:
        return {BENCH_DAG: dag_json(BENCH_DAG, ["work"])}

    def restart_counts(self) -> None:
        self.airflow.control(restart=True)
        self.counters.restart()

    def counts(self) -> dict[str, float]:
        asked = self.airflow.control()
        return {**self.counters.read(), REQUESTS: asked["requests"], BYTES: asked["bytes"]}


def instance_id(run: Run, name: str, index: int = -1) -> str:
    return str(uuid.uuid5(run.pk, f"{name} {index}"))


def deletions(model: type[Model], ids: str) -> list[str]:
    """Return the statements that delete the rows with these primary keys, and before them all that refer to them."""
    statements = []
    for related in model._meta.related_objects:
        table, column = related.related_model._meta.db_table, related.field.column
        if not related.field.null or related.related_model._meta.label.startswith("workflows."):
            pk = related.related_model._meta.pk.column
            inner = f"SELECT {pk} FROM {table} WHERE {column} IN ({ids})"  # noqa: S608 - our own names
            statements += deletions(related.related_model, inner)
        else:
            statements.append(f"UPDATE {table} SET {column} = NULL WHERE {column} IN ({ids})")  # noqa: S608
    return [*statements, f"DELETE FROM {model._meta.db_table} WHERE {model._meta.pk.column} IN ({ids})"]  # noqa: S608
