"""A PostgreSQL that is restored from a dump: clients that know lost events miss no new one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import requests

from runner.home import REPOSITORY, Home
from runner.postgres import server_program
from tests.control.test_beat import Database, pytestmark
from tests.live.parts import Redis, Web

__all__ = ["pytestmark"]

PASSWORD = "correct horse battery staple"
RECORD = """
from django.db import transaction
from django.utils import timezone
from workflows.eventlog import events
with transaction.atomic():
    events.record(events.AirflowUp(airflow="default", version="3.3.2"), now=timezone.now())
"""


class Deployment:
    """A database that can be dumped and restored, and the web process on it."""

    def __init__(self, database: Database, env: dict[str, str], directory: Path) -> None:
        self._database = database
        self._env = env
        self._directory = directory

    def manage(self, *words: str) -> None:
        argv = [sys.executable, str(REPOSITORY / "manage.py"), *words]
        subprocess.run(argv, env=self._env, cwd=REPOSITORY, check=True, capture_output=True)

    def record(self, count: int) -> None:
        for _ in range(count):
            self.manage("shell", "--no-imports", "-c", RECORD)

    def web(self) -> Web:
        return Web(self._directory, **self._env)

    def dump(self) -> Path:
        path = self._directory / "dump"
        self._run("pg_dump", "--format", "custom", "--file", str(path), self._database.url)
        return path

    def restore(self, dump: Path) -> None:
        with psycopg.connect(self._database.url.replace("/postgres", "/template1"), autocommit=True) as connection:
            connection.execute("DROP DATABASE postgres WITH (FORCE)")
            connection.execute("CREATE DATABASE postgres")
        self._run("pg_restore", "--dbname", self._database.url, str(dump))

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run([server_program(program), *arguments], check=True, capture_output=True)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    home = Home(tmp_path / "home")
    home.directory("logs")
    database = Database(home)
    with Redis(tmp_path) as redis:
        env = {
            "SVOPS_HOME": str(home.path),
            "DATABASE_URL": database.url,
            "REDIS_URL": redis.url,
            "PATH": "/usr/bin:/bin",
        }
        env |= {"SECRET_KEY": "only for this test, and long enough for an HMAC", "ALLOWED_HOSTS": "127.0.0.1"}
        env |= {"REGISTRATION": "closed", "AIRFLOW_URL": "http://127.0.0.1:9", "SVOPS_ADMIN_PASSWORD": PASSWORD}
        database.start()
        deployment = Deployment(database, env, tmp_path)
        deployment.manage("migrate", "--no-input")
        deployment.manage("ensure_admin")
        yield deployment
    database.remove()


def log_after(web: Web, cursor: int) -> tuple[int, list[int]]:
    """Return the status of the answer, and the positions of the events after this cursor."""
    who = {"username": "admin", "password": PASSWORD}
    token = requests.post(f"{web.url}/api/v1/auth/login", json=who, timeout=20).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    answer = requests.get(f"{web.url}/api/v1/events?after={cursor}", headers=headers, timeout=20)
    return answer.status_code, [event["id"] for event in answer.json().get("results", [])]


def test_after_a_restore_nobody_misses_an_event_for_one_that_was_lost(deployment: Deployment) -> None:
    """Before: a client at 4 never saw the new 3 and 4."""
    deployment.record(2)
    with deployment.web() as web:
        assert log_after(web, 0) == (200, [1, 2])
        dump = deployment.dump()
        deployment.record(2)
        assert log_after(web, 2) == (200, [3, 4])

    deployment.restore(dump)

    with deployment.web() as web:
        deployment.record(1)
        status, (new,) = log_after(web, 2)

        assert status == 200
        assert new > 1_000_000
        assert log_after(web, 4) == (410, [])
        assert log_after(web, new) == (200, [])
