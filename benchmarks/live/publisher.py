"""Publishes numbered events in closed or open loop: `python -m … KIND PROGRESS ARGUMENTS…`. Its input has the orders:

    closed WINDOW BATCH    keep at most WINDOW events on their way to the slowest client
    open RATE              publish RATE events per second, whether they arrive or not
    pause                  stop; the answer is the number of the last event

Each order is answered with one line, so that the driver knows that it is in force.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from benchmarks.live import sources
from benchmarks.live.progress import SLOWEST, SLOWEST_AT

TICK = 0.005  # seconds between two steps of the open loop, at most
POLL = 0.0002  # seconds between two reads of the slowest client's position

Step = Callable[[], None]


class Publisher:
    def __init__(self, publish: sources.Publish, progress: int) -> None:
        self._publish = publish
        self._progress = progress
        self.sent = 0

    def closed(self, window: int, batch: int) -> None:
        slowest = SLOWEST.unpack(os.pread(self._progress, SLOWEST.size, SLOWEST_AT))[0]
        if self.sent - slowest > window - batch:
            time.sleep(POLL)
        else:
            now = time.monotonic_ns()
            self._send([now] * batch)

    def schedule(self, rate: float) -> Step:
        begin, done = time.monotonic_ns(), 0

        def step() -> None:
            nonlocal done
            due = int((time.monotonic_ns() - begin) * rate / 1e9)
            if due > done:
                # An event counts from the moment when it was due, so a delay in the publisher counts too.
                self._send([begin + int(number * 1e9 / rate) for number in range(done + 1, due + 1)])
                done = due
            else:
                time.sleep(min(TICK, 0.5 / rate))

        return step

    def _send(self, times: Sequence[int]) -> None:
        marks = [f"~{number};{at}~" for number, at in enumerate(times, start=self.sent + 1)]
        self.sent += len(marks)
        self._publish(marks)


def _orders() -> Iterator[list[str] | None]:
    """Yield the next order, or None if there is none yet. Ends with the input."""
    while True:
        if not select.select([sys.stdin], [], [], 0)[0]:
            yield None
        elif line := sys.stdin.readline():
            yield line.split()
        else:
            return


def _idle() -> None:
    time.sleep(TICK)


def _step(publisher: Publisher, order: list[str]) -> Step:
    """Return the step that an order asks to repeat."""
    if order[0] == "closed":
        return partial(publisher.closed, int(order[1]), int(order[2]))
    return publisher.schedule(float(order[1])) if order[0] == "open" else _idle


def main(kind: str, progress: str, *arguments: str) -> None:
    publisher = Publisher(sources.KINDS[kind](*arguments), os.open(progress, os.O_RDONLY))
    step: Step = _idle
    for order in _orders():
        if order is None:
            step()
        else:
            step = _step(publisher, order)
            sys.stdout.write(f"{publisher.sent}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
