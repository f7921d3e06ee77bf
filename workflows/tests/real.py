"""A real Airflow in tests: with DAGs of their own, SVOps' client for it, and the work that beat does otherwise."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from django.utils import timezone
from pytest_django import Settings

from runner.home import REPOSITORY
from runner.ports import free_port
from runner.testing import Served
from workflows import gateway
from workflows.airflow import AirflowClient
from workflows.dispatch import dispatcher
from workflows.models import AirflowCommand, Dag, Run
from workflows.naming import DEFAULT
from workflows.tests.stage import story
from workflows.watch import dags, poll

SOURCE = "of_the_test.py"


@contextmanager
def serve(source: str, *, home: Path) -> Iterator[Served]:
    """Start an Airflow that has the DAGs in this Python text beside the examples."""
    folder = home / "dags"
    shutil.copytree(REPOSITORY / "dags", folder, ignore=shutil.ignore_patterns("tests", "__pycache__"))
    (folder / SOURCE).write_text(source)
    served = Served("airflow", home=home, env={"AIRFLOW_DAGS_FOLDER": str(folder), "AIRFLOW_PORT": str(free_port())})
    yield served
    served.stop()


@contextmanager
def connect(settings: Settings, *, url: str, username: str, password: str) -> Iterator[AirflowClient]:
    """Point SVOps at this Airflow while the block lasts."""
    settings.AIRFLOW_URL, settings.AIRFLOW_USERNAME, settings.AIRFLOW_PASSWORD = url, username, password
    settings.AIRFLOW_READ_TIMEOUT = 30
    gateway.pooled_client.cache_clear()
    gateway.breaker(DEFAULT).close()
    yield gateway.client_of(DEFAULT)
    gateway.client_of(DEFAULT).close()
    gateway.pooled_client.cache_clear()


def connect_to(served: Served, settings: Settings) -> AbstractContextManager[AirflowClient]:
    url, username, password = (served.exports[f"AIRFLOW_{name}"] for name in ("URL", "USERNAME", "PASSWORD"))
    return connect(settings, url=url, username=username, password=password)


def synced(dag_id: str) -> Dag:
    """Synchronize until Airflow has read the DAG."""
    deadline = time.monotonic() + 120
    while True:
        dags.sync_dags(DEFAULT, now=timezone.now())
        if dag := Dag.objects.filter(dag_id=dag_id).first():
            return dag
        assert time.monotonic() < deadline, list(Dag.objects.values("dag_id", "import_error"))
        time.sleep(0.5)


def work() -> None:
    """Do what beat's tasks do again and again."""
    gateway.breaker(DEFAULT).close()
    poll.tick(DEFAULT, now=timezone.now())
    AirflowCommand.objects.filter(finished_at__isnull=True).update(due_at=timezone.now())
    dispatcher.dispatch_due(DEFAULT, now=timezone.now())


def until(run: Run, holds: Callable[[Run], bool], *, within: float = 180) -> Run:
    """Work until the condition holds for the run."""
    deadline = time.monotonic() + within
    while True:
        work()
        run.refresh_from_db()
        if holds(run):
            return run
        assert time.monotonic() < deadline, (run.state, run.state_reason, story(run), list(run.tasks.values()))
        time.sleep(0.2)


def ended(run: Run) -> Run:
    return until(run, lambda run: run.is_terminal)
