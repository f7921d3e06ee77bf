"""A worker whose Redis dies under it."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.application import Application
from runner.home import Home
from runner.ports import free_port
from svops.celery import app
from tests.live import parts
from tests.live.parts import Redis, Running, until


class Worker(Running):
    """A Celery worker on the test database."""

    def __init__(self, directory: Path, **env: str) -> None:
        home = Home(directory / "worker")
        home.directory("logs")
        shared = {"SVOPS_HOME": str(home.path), "DATABASE_URL": parts.test_database_url()}
        application = Application(home, host="127.0.0.1", port=free_port(), env=shared | env, database=None)
        super().__init__(application.parts()[1], home.logs / "worker.log")

    def wait_until_ready(self) -> None:
        until(lambda: self.log.count(" ready.") > 0, within=60, or_say=lambda: self.log)

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None


@pytest.fixture
def silent_airflow() -> Iterator[socket.socket]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_is_at_work_outlives_its_redis(tmp_path: Path, silent_airflow: socket.socket) -> None:
    airflow_url = f"http://127.0.0.1:{silent_airflow.getsockname()[1]}"

    with Redis(tmp_path) as redis, Worker(tmp_path, REDIS_URL=redis.url, AIRFLOW_URL=airflow_url) as worker:
        _send("workflows.tasks.sync_dags", redis)
        at_work, _ = silent_airflow.accept()
        redis.end(signal.SIGKILL)
        until(lambda: "Connection to broker lost" in worker.log, within=30, or_say=lambda: worker.log)
        redis.begin()
        redis.wait_until_ready()
        until(lambda: worker.log.count("Connected to redis") == 2, within=30, or_say=lambda: worker.log)
        silent_airflow.close()
        at_work.close()
        until(lambda: worker.log.count("DAGs not synced") == 1, within=30, or_say=lambda: worker.log)

        _send("workflows.tasks.sync_dags", redis)

        until(lambda: worker.log.count("DAGs not synced") == 2, within=30, or_say=lambda: worker.log)
        assert worker.is_alive


def _send(name: str, redis: Redis) -> None:
    with app.connection_for_write(redis.url) as connection:
        app.send_task(name, connection=connection)
