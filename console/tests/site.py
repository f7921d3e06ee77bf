"""A web process for the browser, on a database that the test process writes to as well.

It cannot use the database of pytest-django, which is in memory or emptied between tests. A web process whose event
log starts again from 1 would take new events for old ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
import psycopg
import pytest
import requests
from django.conf import settings
from django.db import connections
from django.db.utils import load_backend

from runner.home import REPOSITORY
from runner.ports import free_port

DEADLINE = 60.0


def until(condition: Callable[[], bool], *, what: str, deadline: float = DEADLINE) -> None:
    """Wait for a condition in this process. Playwright itself waits for conditions of the page."""
    ends = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > ends:
            raise AssertionError(f"not within {deadline:.0f} s: {what}")
        time.sleep(0.05)


@contextmanager
def own_database(folder: Path) -> Iterator[str]:
    """Create a database with the schema and make it `default` in this process; yield its URL."""
    with _created(folder) as url:
        environment = dict(os.environ) | {"DATABASE_URL": url}
        migrate = [sys.executable, "manage.py", "migrate", "--no-input", "--verbosity", "0"]
        subprocess.run(migrate, cwd=REPOSITORY, env=environment, check=True)
        with pytest.MonkeyPatch.context() as patch:
            # Playwright runs an event loop in this thread, so Django would refuse our queries.
            patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
            with _as_default(url):
                yield url


@contextmanager
def _created(folder: Path) -> Iterator[str]:
    given = os.environ.get("DATABASE_URL", "")
    if not given.startswith("postgres"):
        yield f"sqlite:///{folder / 'console.sqlite3'}"
        return
    name = f"svops_console_{os.getpid()}"
    with psycopg.connect(given, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
        yield urlsplit(given)._replace(path=f"/{name}").geturl()
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def _as_default(url: str) -> Iterator[None]:
    place = {name: value for name, value in dj_database_url.parse(url).items() if name in _PLACE}
    config: dict[str, Any] = {**settings.DATABASES["default"], **place}
    # Django keeps pools by alias and would use the pool of the other database.
    config["OPTIONS"] = {name: value for name, value in config["OPTIONS"].items() if name != "pool"}
    before, own = connections["default"], load_backend(config["ENGINE"]).DatabaseWrapper(config, "default")
    connections["default"] = own
    try:
        yield
    finally:
        own.close()
        connections["default"] = before


_PLACE = {"NAME", "USER", "PASSWORD", "HOST", "PORT"}


class Site:
    """The web process. A test can kill it and start it again at the same address."""

    def __init__(self, *, database_url: str, log: Path, env: Mapping[str, str]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._argv = [sys.executable, "-m", "svops.server", "--port", str(port)]
        self._env = dict(os.environ) | {"DATABASE_URL": database_url, "STREAM_HEARTBEAT": "1"} | dict(env)
        self._log = log
        self.start()

    def start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(self._argv, cwd=REPOSITORY, env=self._env, stdout=log, stderr=log)
        until(self._answers, what=f"the web process answers, see {self._log}")

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(f"the web process has ended:\n{self._log.read_text()}")
        try:
            return requests.get(f"{self.url}/healthz", timeout=2).ok
        except requests.RequestException:
            return False

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
