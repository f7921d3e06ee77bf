"""Breaks one thing after the other, drawn from a seed."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

import requests

from tests.chaos.journal import Journal
from tests.chaos.process import Process
from tests.chaos.side import Side
from tests.chaos.stand import Stand
from tests.chaos.wire import Wire

# Seconds. A task at work leaves a trace more often.
FRESH = 1.0
SLOW = 3.0  # as long as SVOps waits for it while a caller waits (DISPATCH_BUDGET)


class Saboteur:
    """Injects faults until `stop` is set; at the end everything runs again."""

    def __init__(self, stand: Stand, journal: Journal, *, seed: str, stop: threading.Event, mean_pause: float) -> None:
        self._stand = stand
        self._journal = journal
        self._rng = random.Random(f"{seed}:faults")
        self._stop = stop
        self._mean_pause = mean_pause
        # Drawn from bags, so that even a short seed has every kind.
        self._kinds = _bag(
            self._rng,
            [
                *(self._kill, self._kill, self._kill, self._kill_task),
                *(self._freeze, self._freeze, self._cut, self._delay, self._refuse),
            ],
        )
        self._killed = _bag(self._rng, stand.killed)
        self._frozen = _bag(self._rng, stand.frozen)
        self._wires = _bag(self._rng, tuple(stand.wires))

    def run(self) -> None:
        while not self._stop.wait(self._rng.uniform(0.3, 1.7) * self._mean_pause):
            next(self._kinds)()

    def _kill(self) -> None:
        process = self._stand.processes[next(self._killed)]
        with process.lock, self._journal.fault("kill -9", process.name):
            process.kill()
            self._stop.wait(self._rng.choice((0, 0, 2, 6)))
            process.bring_up()

    def _kill_task(self) -> None:
        """Kill the process of one task, as the system does when memory runs out. Airflow fails it or tries again."""
        at_work = self._stand.tasks_at_work(within=FRESH)
        if at_work:
            with self._journal.fault("kill -9", "task"), suppress(ProcessLookupError):
                os.kill(self._rng.choice(at_work), signal.SIGKILL)

    def _freeze(self) -> None:
        process = self._stand.processes[next(self._frozen)]
        with process.lock, self._journal.fault("freeze", process.name):
            process.freeze()
            self._stop.wait(self._rng.uniform(1, 12))
            process.thaw()

    def _cut(self) -> None:
        name, wire = self._wire()
        with self._journal.fault("cut", name):
            wire.cut()

    def _delay(self) -> None:
        name, wire = self._wire()
        with self._journal.fault("delay", name):
            wire.delay = self._rng.uniform(0.1, 1.5)
            self._stop.wait(self._rng.uniform(2, 8))
            wire.delay = 0.0

    def _refuse(self) -> None:
        name, wire = self._wire()
        with self._journal.fault("refuse", name):
            wire.refuses = True
            wire.cut()
            self._stop.wait(self._rng.uniform(2, 15))
            wire.refuses = False

    def _wire(self) -> tuple[str, Wire]:
        name = next(self._wires)
        return name, self._stand.wires[name]


T = TypeVar("T")


def _bag(rng: random.Random, items: Iterable[T]) -> Iterator[T]:
    """Yield the items in random order, all of them before one comes again."""
    kept = list(items)
    while True:
        yield from rng.sample(kept, len(kept))


class Watchman:
    """Starts again what died by itself, as a container platform would, and notes when a part is slow by itself."""

    def __init__(self, stand: Stand, journal: Journal, stop: threading.Event) -> None:
        self._stand = stand
        self._journal = journal
        self._stop = stop

    def run(self) -> None:
        while not self._stop.wait(1):
            for process in self._stand.processes.values():
                with process.lock:
                    if not process.is_alive:
                        self._revive(process)

    def _revive(self, process: Process) -> None:
        with self._journal.fault("died by itself", process.name, injected=False):
            process.kill()
            process.bring_up()


class Prober:
    """Asks an Airflow itself every second. An answer that takes long on a busy machine explains a 503 of SVOps."""

    def __init__(self, side: Side, journal: Journal, stop: threading.Event) -> None:
        self._side = side
        self._journal = journal
        self._stop = stop

    def run(self) -> None:
        while not self._stop.wait(1):
            begun = time.monotonic()
            try:
                self._side.ask("GET", "/dags?limit=1", timeout=SLOW)
            except requests.RequestException as exc:
                self._journal.note_slow(self._side.process("api"), type(exc).__name__, begun=begun)
