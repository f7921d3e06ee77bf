"""Real processes for the tests: web processes as `make up` starts them, a Redis that can go away, a writer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from django.db import connection

from svops.local.application import Application
from svops.local.home import REPOSITORY, Home
from svops.local.part import Part
from svops.local.ports import free_port
from svops.local.redis import redis_part
from workflows.models import Run

POLL = 0.02


def until(holds: Callable[[], bool], *, within: float, or_say: Callable[[], object] = lambda: "") -> float:
    """Wait for a condition, fail after `within` seconds with what `or_say` tells; the seconds it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() < began + within, or_say()
        time.sleep(POLL)
    return time.monotonic() - began


def test_database_url() -> str:
    """How another process reaches the database that the tests write to."""
    there = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{there['NAME']}"
    who = f"{quote(there['USER'])}:{quote(there['PASSWORD'])}"
    return f"postgresql://{who}@{there['HOST']}:{there['PORT']}/{there['NAME']}"


class Running:
    """The one process of a part, which can be started, ended, killed, and started again where it was."""

    def __init__(self, part: Part, log: Path) -> None:
        self._part = part
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.begin()
        try:
            self.wait_until_ready()
        except BaseException:
            self.end(signal.SIGKILL)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(signal.SIGTERM)

    def begin(self) -> None:
        """Start it; not ready yet."""
        command = self._part.commands[0]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command.argv, env=command.env, cwd=command.cwd, stdout=log, stderr=subprocess.STDOUT
            )

    def wait_until_ready(self) -> None:
        until(lambda: not self._part.waiting_for(), within=60, or_say=lambda: f"{self._part.waiting_for()}: {self.log}")

    def end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(timeout=20)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")


class Web(Running):
    """A web process on the test database."""

    def __init__(self, directory: Path, **env: str) -> None:
        port = free_port()
        home = Home(directory / f"web-{port}")
        home.directory("logs")
        shared = {"SVOPS_HOME": str(home.path), "DATABASE_URL": test_database_url(), "LOG_LEVEL": "WARNING"}
        application = Application(home, host="127.0.0.1", port=port, env=shared | env, database=None)
        super().__init__(application.parts()[0], home.logs / "web.log")
        self.port = port
        self.url = application.url


class Redis(Running):
    """A Redis of our own: stopping it disturbs nobody, and it comes back under the same URL."""

    def __init__(self, directory: Path) -> None:
        home = Home(directory / "redis")
        part = redis_part(home)
        super().__init__(part, home.logs / "redis.log")
        self.url = part.exports["REDIS_URL"]


class Writer:
    """A process that appends to the log, with an environment of its own."""

    def __init__(self, **env: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.live.writer"],
            cwd=REPOSITORY,
            env=dict(os.environ) | {"DATABASE_URL": test_database_url(), "LOG_LEVEL": "ERROR"} | env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=20)

    def append(self, run: Run, count: int) -> None:
        """Have it append `count` events to the run, and wait until it has."""
        assert self.answer({"run": str(run.pk), "count": count}) == "done"

    def answer(self, order: Mapping[str, Any]) -> str:
        """Its answer to an order; "" when it dies over it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()
