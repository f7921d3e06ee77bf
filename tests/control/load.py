"""Callers that trigger while other things happen, and the platform's own ticks."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import NamedTuple, Self

from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from tests.live.parts import until
from workflows.conftest import bearer, token_of
from workflows.dispatch import dispatcher
from workflows.models import AirflowCommand, Event, Workflow
from workflows.naming import DEFAULT
from workflows.watch import poll

CALLERS = 4


class Answer(NamedTuple):
    status: int
    state: str
    run_id: str
    seconds: float


def tick() -> None:
    """Do what beat triggers every second or two."""
    poll.tick(DEFAULT, now=timezone.now())
    dispatcher.dispatch_due(DEFAULT, now=timezone.now())


class Callers:
    """Several callers that trigger one run after the other, and the answers that they get."""

    def __init__(self, workflow: Workflow, user: User) -> None:
        self._path = f"/api/v1/workflows/{workflow.pk}/runs"
        self._clients = [bearer(token_of(user)) for _ in range(CALLERS)]
        self._orders: SimpleQueue[bool] = SimpleQueue()
        self.answers: list[Answer] = []

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(CALLERS)
        self._calls = [self._pool.submit(self._call, client) for client in self._clients]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in self._calls:
            self._orders.put(False)
        self._pool.shutdown()
        for call in self._calls:
            call.result()

    def begin(self, count: int) -> Callable[[], bool]:
        """Trigger so many runs. Return a function that says whether all are answered."""
        expected = len(self.answers) + count
        for _ in range(count):
            self._orders.put(True)
        return lambda: len(self.answers) >= expected

    def _call(self, client: APIClient) -> None:
        try:
            while self._orders.get():
                began = time.monotonic()
                answer = client.post(self._path, {})
                read = answer.json()
                seconds = time.monotonic() - began
                self.answers.append(Answer(answer.status_code, read["state"], read["id"], seconds))
        finally:
            connection.close()


def run_until(holds: Callable[[], bool], *, within: float = 60) -> None:
    """Let the platform tick until a condition holds."""

    def ticked() -> bool:
        tick()
        return holds()

    until(ticked, within=within, or_say=lambda: list(AirflowCommand.objects.values("kind", "last_error", "due_at")))


def nothing_is_pending() -> bool:
    return not AirflowCommand.objects.filter(finished_at__isnull=True).exists()


def outages() -> list[str]:
    recorded = Event.objects.filter(type__startswith="system.").order_by("position")
    return list(recorded.values_list("type", flat=True))
