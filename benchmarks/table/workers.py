"""The processes of a run of the table: for each database a worker, with a scripted Airflow of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import requests

from benchmarks.table.row import WHOLE
from runner.errors import StartError
from runner.home import REPOSITORY
from runner.ports import free_port

START_TIMEOUT = 60
# Nobody answers here.
NOWHERE = "http://127.0.0.1:9"
SETTINGS = {
    "DJANGO_SETTINGS_MODULE": "svops.settings",
    "SECRET_KEY": "only for the benchmark, and long enough for an HMAC with SHA-256",
    "SVOPS_INGEST_SECRET": "only for the benchmark, and long enough for an HMAC with SHA-256",
    "ALLOWED_HOSTS": "testserver,127.0.0.1,localhost",
    "DAG_ACCESS": "open",
    "LOG_LEVEL": "CRITICAL",
    "ACCESS_TOKEN_SECONDS": "86400",
    "AUDIT_HEAD_FILE": "off",
    # The scripted Airflow does not have the loaded runs.
    "DELETIONS_DAYS": "0",
    **{f"RATE_LIMIT_{name}": "off" for name in ("API", "AUTH", "INGEST", "STREAM", "TEST", "RECIPIENT")},
}


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where a worker finds its parts."""

    database_url: str
    redis_url: str
    home: Path

    def environment(self, *, airflow_url: str) -> dict[str, str]:
        places = {"DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url, "SVOPS_HOME": str(self.home)}
        return dict(os.environ) | SETTINGS | places | {"AIRFLOW_URL": airflow_url}


class Worker:
    """A process that measures rows on one database."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self._process = process

    def load(self, runs: int, **size: int) -> None:
        self._ask({"load": {"runs": runs, **size}})

    def tokens(self, usernames: Sequence[str]) -> list[str]:
        """Return an access token for each user."""
        tokens: list[str] = self._ask({"tokens": list(usernames)})["tokens"]
        return tokens

    def profile(self, row: str, *, seconds: float) -> dict[str, Any]:
        """Return the tree of frames in which the row spends its time, or its `error`."""
        return self._ask({"profile": row, "seconds": seconds})

    def measure(self, row: str, side: str) -> dict[str, Any]:
        """Return the figures of one work, or its `error`."""
        return self._ask({"row": row, "side": side})

    def _ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        given, answers = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)
        given.write(json.dumps(order) + "\n")
        given.flush()
        line = answers.readline()
        if not line:
            raise StartError(f"the worker for the {self.name} database has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def working(name: str, places: Places, *, extent: str = WHOLE) -> Iterator[Worker]:
    with ExitStack() as stack:
        airflow_url = stack.enter_context(scripted_airflow())
        env = places.environment(airflow_url=airflow_url)
        argv = [sys.executable, "-m", "benchmarks.table.worker", name, extent]
        process = stack.enter_context(started(argv, env, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        yield Worker(name, process)


def migrate(env: Mapping[str, str]) -> None:
    manage(env, "migrate", "--verbosity", "0")


def manage(env: Mapping[str, str], *words: str) -> None:
    done = subprocess.run([sys.executable, "manage.py", *words], cwd=REPOSITORY, env=env, check=False)
    if done.returncode:
        raise StartError(f"manage.py {words[0]} failed")


@contextmanager
def scripted_airflow() -> Iterator[str]:
    port = free_port()
    argv = [sys.executable, "-m", "benchmarks.table.airflow", str(port)]
    with started(argv, dict(os.environ)) as process:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                requests.get(f"{url}/api/v2/version", timeout=5).raise_for_status()
                break
            except requests.RequestException as exc:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise StartError("the scripted Airflow does not start") from exc
                time.sleep(0.05)
        yield url


@contextmanager
def started(argv: list[str], env: Mapping[str, str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(argv, cwd=REPOSITORY, env=env, text=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def celery(*words: str) -> list[str]:
    return [sys.executable, "-m", "celery", "-A", "svops", *words]


# As `make up` starts them.
PLATFORM = (
    celery("worker", "--pool", "threads", "--concurrency", "8", "--without-gossip", "--without-mingle"),
    celery("beat", "--pidfile="),
)
