"""What a publisher pays for one wake-up, with an idle process and beside a busy thread.

    .venv/bin/python -m runner with redis -- .venv/bin/python benchmarks/bench_wake_ups.py

Prints the median and the 95th percentile of the time that one wake-up takes, for one event and for a batch of 128.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from statistics import quantiles

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["DJANGO_SETTINGS_MODULE"] = "svops.settings"

import django

ROUNDS = 1000
BATCHES = (1, 128)


def main() -> None:
    django.setup()
    for batch in BATCHES:
        report("idle process", batch)
    threading.Thread(target=be_busy, daemon=True).start()
    for batch in BATCHES:
        report("beside a busy thread", batch)


def be_busy() -> None:
    """Hold the interpreter's lock for about half of the time, as the hub of a busy web process does."""
    while True:
        until = time.perf_counter() + 0.001
        while time.perf_counter() < until:
            pass
        time.sleep(0.001)


def report(case: str, batch: int) -> None:
    from workflows.eventlog import publication
    from workflows.eventlog.publication import Published

    frame = '{"data":"' + "x" * 480 + '"}'
    events = [Published(position, "task.started", 1, "0" * 36, 1, frame) for position in range(batch)]
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        publication._send_wake_up(events)
        times.append((time.perf_counter() - began) * 1e6)
    cuts = quantiles(times, n=20)
    print(f"{case}, {batch} events: median {cuts[9]:.0f} µs, p95 {cuts[18]:.0f} µs")


if __name__ == "__main__":
    main()
