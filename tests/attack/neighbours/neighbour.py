"""A user who goes on working: triggers a run, lists the runs, opens a stream, and notes how long each takes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import requests
from websockets.sync.client import connect

from runner.home import REPOSITORY
from tests.attack.neighbours.sender import Order
from tests.attack.target import PATIENCE, Target
from tests.live.conftest import new_user, new_workflow, token_of

ACTIONS = ("trigger", "list", "stream")
Times = Mapping[str, list[float]]


class Neighbour:
    def __init__(self, web: Target) -> None:
        user = new_user()
        self._headers = {"Authorization": f"Bearer {token_of(user)}"}
        self._runs = f"{web.url}/api/v1/workflows/{new_workflow(user).pk}/runs"
        self._socket = web.url.replace("http", "ws", 1) + "/api/v1/ws"
        self._session = requests.Session()
        self._session.headers.update(self._headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def work(self, rounds: int) -> Times:
        """Do each action so many times, in turn. Return the seconds of each."""
        took: dict[str, list[float]] = defaultdict(list)
        actions: dict[str, Callable[[], None]] = dict(
            zip(ACTIONS, (self._trigger, self._list, self._open), strict=True)
        )
        for _ in range(rounds):
            for name, action in actions.items():
                began = time.perf_counter()
                action()
                took[name].append(time.perf_counter() - began)
        return took

    def _trigger(self) -> None:
        answer = self._session.post(self._runs, json={}, timeout=PATIENCE)
        assert (answer.status_code, answer.json()["state"]) == (201, "queued"), answer.text

    def _list(self) -> None:
        assert self._session.get(self._runs, timeout=PATIENCE).status_code == 200

    def _open(self) -> None:
        with connect(self._socket, additional_headers=self._headers, open_timeout=PATIENCE) as stream:
            assert json.loads(stream.recv(timeout=PATIENCE))["type"] == "connection.ready"


def p95(times: list[float]) -> float:
    """Return the time that 95 of 100 stay within, interpolated between the two nearest."""
    return statistics.quantiles(times, n=20, method="inclusive")[-1]


@dataclass
class Comparison:
    """Pairs of windows, a quiet one and one under attack, one after the other."""

    quiet: list[Times] = field(default_factory=list)
    attacked: list[Times] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)
    memory_before: float = 0.0
    memory_after: float = 0.0

    def ratio(self, action: str) -> float:
        """Return the median over the pairs of how many times as long the p95 is under attack."""
        pairs = zip(self.quiet, self.attacked, strict=True)
        return statistics.median(p95(attacked[action]) / p95(quiet[action]) for quiet, attacked in pairs)

    def p95_of(self, windows: list[Times], action: str) -> float:
        return statistics.median(p95(window[action]) for window in windows)

    @property
    def memory(self) -> float:
        return self.memory_after / self.memory_before


@contextmanager
def attacking(order: Order, sent: list[dict[str, Any]]) -> Iterator[None]:
    """Send the flood from a process of its own while the block runs. Note what was sent and answered."""
    command = [sys.executable, "-m", "tests.attack.neighbours.sender"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(order.as_line() + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == "under way\n"
            yield
            process.stdin.close()
            sent.append(json.loads(process.stdout.readline()))
        finally:
            process.kill()
