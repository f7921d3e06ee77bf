"""Beat on a PostgreSQL that is away when beat starts, and again while it runs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis as redis_client

from runner.application import Application
from runner.home import REPOSITORY, Home
from runner.once import run_once
from runner.part import Part
from runner.ports import free_port
from runner.postgres import SURVIVES_KILL, Postgres
from tests.chaos.process import Process
from tests.live.parts import Redis, Running, until

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.servers,
    pytest.mark.skipif(
        not (shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))),
        reason="PostgreSQL is not installed",
    ),
]

TICK = "workflows.tasks.reconcile"
WAITS = "beat waits for the database"
NEW = "workflows.tasks.sync_dags"


class Database:
    """A PostgreSQL with the tables of SVOps that can be killed and started again."""

    def __init__(self, home: Home) -> None:
        self._postgres = Postgres(home, options=SURVIVES_KILL)
        self._postgres.prepare()
        self.url = self._postgres.url
        part = self._postgres.part()
        self._process = Process(part.commands[0], home.logs / "postgres.log", lambda: not part.waiting_for())
        self._log = home.logs / "migrate.log"

    def start(self) -> None:
        self._process.start()
        self._process.wait_until_ready(within=60)

    def kill(self) -> None:
        self._process.kill()

    def migrate(self, env: dict[str, str]) -> None:
        argv = [sys.executable, str(REPOSITORY / "manage.py"), "migrate", "--no-input"]
        assert run_once(argv, env=env, log=self._log, cwd=REPOSITORY) == 0, self._log.read_text()

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(statement.encode())

    def remove(self) -> None:
        self._process.kill()
        self._postgres.remove()


class Beat(Running):
    """The process `beat` as the platform starts it."""

    def __init__(self, application: Application, home: Home) -> None:
        command = application.parts()[1].commands[1]
        super().__init__(Part(name="beat", commands=[command], waiting_for=lambda: ""), home.logs / "beat.log")

    def says(self, text: str, *, times: int = 1) -> None:
        """Wait until its log contains the text so many times."""
        until(lambda: self.log.count(text) >= times, within=150, or_say=lambda: self.log)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.directory("logs")
    return home


@pytest.fixture
def database(home: Home) -> Iterator[Database]:
    database = Database(home)
    yield database
    database.remove()


def test_beat_starts_without_its_database_and_goes_on_when_it_comes_goes_and_comes_again(
    home: Home, database: Database, tmp_path: Path
) -> None:
    with Redis(tmp_path) as redis:
        env = {"SVOPS_HOME": str(home.path), "DATABASE_URL": database.url, "REDIS_URL": redis.url}
        env |= {"SECRET_KEY": "only for this test, and long enough for an HMAC", "ALLOWED_HOSTS": "127.0.0.1"}
        env |= {"REGISTRATION": "closed", "AIRFLOW_URL": "http://127.0.0.1:9", "DATABASE_POOL_SIZE": "1"}
        application = Application(home, host="127.0.0.1", port=free_port(), env=env, database=None)
        database.start()
        database.migrate(application.parts()[1].commands[1].env)  # type: ignore[arg-type]
        database.kill()
        with Beat(application, home) as beat, redis_client.Redis.from_url(redis.url) as broker:
            beat.says(WAITS, times=3)
            assert broker.llen("celery") == 0

            # However long the outage was, the next try but one is in time.
            database.start()
            sent(broker, TICK, beat)
            assert beat.log.count(WAITS) <= 4, beat.log

            # What it knows it sends without the database.
            database.kill()
            beat.says("Database gave error")
            broker.delete("celery")
            sent(broker, TICK, beat)

            # A schedule that is changed after the outage is read.
            database.start()
            database.execute(
                "WITH fast AS (INSERT INTO django_celery_beat_intervalschedule (every, period) VALUES (1, 'seconds')"  # noqa: S608
                " RETURNING id) UPDATE django_celery_beat_periodictask SET interval_id = (SELECT id FROM fast)"
                f" WHERE task = '{NEW}'; UPDATE django_celery_beat_periodictasks SET last_update = now()"
            )
            broker.delete("celery")
            sent(broker, NEW, beat, times=3)


def sent(broker: redis_client.Redis, task: str, beat: Beat, *, times: int = 1) -> None:
    """Wait until beat has put messages for the task into the queue."""
    name = task.encode()

    def has_sent() -> bool:
        messages: list[bytes] = broker.lrange("celery", 0, -1)  # type: ignore[assignment]
        return sum(name in message for message in messages) >= times

    until(has_sent, within=150, or_say=lambda: beat.log)
