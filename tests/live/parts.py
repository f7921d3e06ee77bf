"""Real processes for the tests: web processes as `make up` starts them, a Redis that can be stopped, a writer."""

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

from runner.application import Application
from runner.home import REPOSITORY, Home
from runner.part import Part
from runner.ports import free_port
from runner.redis import redis_part
from runner.testing import ended, ended_by_its_input
from workflows.models import Run

POLL = 0.02


def until(holds: Callable[[], bool], *, within: float, or_say: Callable[[], object] = lambda: "") -> float:
    """Wait for a condition and return the seconds it took. Fail after `within` seconds with the text of `or_say`."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() < began + within, or_say()
        time.sleep(POLL)
    return time.monotonic() - began


def test_database_url() -> str:
    """Return the URL of the test database for other processes."""
    there = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{there['NAME']}"
    who = f"{quote(there['USER'])}:{quote(there['PASSWORD'])}"
    return f"postgresql://{who}@{there['HOST']}:{there['PORT']}/{there['NAME']}"


class Running:
    """The process of a part. It can be started, ended, killed, and started again at the same address."""

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
        """Start it, without waiting until it is ready."""
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
        ended(self._process)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

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
    """A Redis that only one test uses and may stop. It starts again under the same URL."""

    def __init__(self, directory: Path) -> None:
        home = Home(directory / "redis")
        part = redis_part(home)
        super().__init__(part, home.logs / "redis.log")
        self.url = part.exports["REDIS_URL"]


class Writer:
    """A process with its own environment that appends to the log."""

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
        ended_by_its_input(self._process)

    def append(self, run: Run, count: int) -> None:
        """Let it append `count` events to the run, and wait until it is done."""
        assert self.answer({"run": str(run.pk), "count": count}) == "done"

    def answer(self, order: Mapping[str, Any]) -> str:
        """Return its answer to an order, or an empty string if it dies."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()
