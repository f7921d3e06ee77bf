"""Publishes numbered events in closed or open loop, as it is told on its input: `python -m … KIND PROGRESS ARGUMENTS…`.

    closed WINDOW BATCH    keep at most WINDOW events on their way to the slowest client
    open RATE              so many events per second, whatever becomes of them
    pause                  no more; answers with the number of the last event once it is sent

Each line is answered by one, so that the driver knows that it holds from then on.
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

TICK = 0.005  # seconds between two looks at the clock of the open loop
POLL = 0.0002  # seconds between two looks at the slowest client

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
                # The time of an event is when it was due: one that had to wait for the publisher is late too.
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
    """The next order, or None when there is none yet; ends with our input."""
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
    """What an order means, to be done again and again."""
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
