"""Processes that die, and what a platform does after that."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from django.conf import settings
from django.db import connection
from django.utils import timezone

from runner.home import REPOSITORY
from runner.testing import ended_by_its_input
from tests.control.staged import Exchange
from tests.live.parts import test_database_url, until
from workflows.dispatch import dispatcher
from workflows.eventlog import publication
from workflows.naming import DEFAULT

NAME = "svops-victim"


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a process ended: killed `at` a step, or normally after so many `steps` with an `outcome`.

    `effects` are the steps that changed something outside of the process, each with what it did.
    """

    status: int
    at: str = ""
    steps: int = 0
    effects: Sequence[tuple[int, str]] = ()
    outcome: Any = None

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a process has to do."""

    action: str
    path: str = ""
    body: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


class Victims:
    """Processes on the test database and the staged Airflow. Each executes one order."""

    def __init__(self, **env: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.control.victim"],
            cwd=REPOSITORY,
            env=dict(os.environ)
            | {
                "DATABASE_URL": test_database_url(),
                "DATABASE_POOL_SIZE": "1",
                "PGAPPNAME": NAME,
                "AIRFLOW_URL": settings.AIRFLOW_URL,
                "AIRFLOW_USERNAME": settings.AIRFLOW_USERNAME,
                "AIRFLOW_PASSWORD": settings.AIRFLOW_PASSWORD,
                "LOG_LEVEL": "CRITICAL",
            }
            | env,
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

    def live(self, order: Order) -> Ending:
        """Let it execute the order to its end."""
        ending = self.send(order)
        assert ending.status == 0
        return ending

    def send(self, order: Order, *, dies_at: int = 0) -> Ending:
        """Let it execute the order up to a step."""
        self._begin(order, dies_at=dies_at)
        return self._end()

    def die_in(self, exchange: Exchange, order: Order) -> Ending:
        """Kill it when Airflow has reached this point of one of its requests."""
        pid = self._begin(order, dies_at=0)
        assert exchange.came.wait(30), "it never asked"
        os.kill(pid, signal.SIGKILL)
        return self._end()

    def _begin(self, order: Order, *, dies_at: int) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(vars(order) | {"dies_at": dies_at}) + "\n")
        self._process.stdin.flush()
        return int(self._answer()["pid"])

    def _end(self) -> Ending:
        ending = Ending(**self._answer())
        if connection.vendor == "postgresql":
            # The server notices a moment later. Until then the transaction may hold locks, or still commit.
            until(lambda: not _has_sessions(), within=30)
        return ending

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def _has_sessions() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [NAME])
        return bool(cursor.fetchone()[0])


def carry_on() -> None:
    """Do what beat's tasks do after the leases of a dead process have expired."""
    dispatcher.dispatch_due(DEFAULT, now=timezone.now() + timedelta(seconds=settings.DISPATCH_LEASE + 1))
    publication.publish()
