"""Processes of a benchmark: bound to their cores, measured, and always ended."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
START_TIMEOUT = 30
STOP_TIMEOUT = 10

CORES = sorted(os.sched_getaffinity(0))
# The server has one core to itself. Load client, publisher and Redis share the others.
SERVER_CORES = CORES[:1]
OTHER_CORES = CORES[1:] or CORES


class BenchmarkError(Exception):
    """A measurement cannot be made. The message says why."""


def raise_file_limit() -> None:
    """Raise the limit of open files. Each client is one file here and one in its server."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def started(
    argv: Sequence[str],
    *,
    log: Path,
    cores: Sequence[int],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    answers: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process during the block. Its input is a pipe from this process, its output goes to `log`.

    With `answers` its output is a pipe to this process, and only its errors go to `log`.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            # Bound before it starts, so that its threads and children are bound too.
            ["taskset", "--cpu-list", ",".join(map(str, cores)), *argv],
            env=dict(os.environ) | dict(env or {}),
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if answers else output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                continue


def await_port(port: int, process: subprocess.Popen[bytes], *, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise BenchmarkError(f"nothing listens on port {port}: {tail(log)}")


def tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return " | ".join(lines[-5:])


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and its children so far."""
    return sum(_cpu_ticks(one) for one in _family(pid)) / TICKS


def memory_bytes(pid: int) -> int:
    """Return the memory of a process and its children. A shared page counts in parts."""
    return sum(_pss_bytes(one) for one in _family(pid))


def _family(pid: int) -> Iterator[int]:
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from _family(int(child))


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def _pss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
