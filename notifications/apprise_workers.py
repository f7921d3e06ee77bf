"""A fixed number of processes in which Apprise runs. Each works on one order at a time, and many after each other.

A leaf: it knows no Django. A process that takes too long or ends is replaced, and nothing of it reaches the next order.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from select import select
from typing import IO, Any, cast

ROOT = Path(__file__).resolve().parent.parent
ORDERS = 200  # after so many a process is replaced: foreign code may leak memory
LONGEST_ANSWER = 100_000


class WorkerError(Exception):
    """There is no answer; `str()` says why."""


class Workers:
    """Up to `size` processes, each started when it is needed first."""

    def __init__(self) -> None:
        self._free: list[_Worker] = []
        self._busy = 0
        self._condition = threading.Condition()
        self._pid = os.getpid()

    def ask(self, order: dict[str, Any], *, size: int, timeout: float) -> dict[str, Any]:
        """Give the order to a process and return its answer. Waiting for a process counts for the timeout."""
        end = time.monotonic() + timeout
        worker = self._take(size, end)
        answer = None
        try:
            answer = worker.ask(order, end=end, timeout=timeout)
        finally:
            self._give_back(worker, keep=answer is not None and worker.asked < ORDERS)
        return answer

    def close(self) -> None:
        """End the processes that work on nothing."""
        with self._condition:
            while self._free:
                self._free.pop().end()

    def _take(self, size: int, end: float) -> _Worker:
        with self._condition:
            if self._pid != os.getpid():
                # A fork: the processes are those of the parent.
                self._free, self._busy, self._pid = [], 0, os.getpid()
            while self._busy >= size:
                if not self._condition.wait(max(end - time.monotonic(), 0)):
                    raise WorkerError("all processes of Apprise are busy")
            self._busy += 1
            worker = self._free.pop() if self._free else None
        if worker is not None:
            if worker.is_alive():
                return worker
            worker.end()
        try:
            return _Worker()
        except OSError as exc:
            self._give_back(worker, keep=False)
            raise WorkerError(f"the process of Apprise does not start: {exc.strerror}") from exc

    def _give_back(self, worker: _Worker | None, *, keep: bool) -> None:
        if worker is not None and not keep:
            worker.end()
        with self._condition:
            self._busy -= 1
            if worker is not None and keep:
                self._free.append(worker)
            self._condition.notify()


class _Worker:
    def __init__(self) -> None:
        # Without the environment of SVOps: the process runs foreign code and must see no proxy and no secret.
        environment = {name: os.environ[name] for name in ("PATH", "SSL_CERT_FILE") if name in os.environ}
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        self.asked = 0
        # A file: nobody reads a pipe while the process works, and a full one would stop it.
        self._errors = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed with the process
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "notifications.apprise_process"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
            )
        except OSError:
            self._errors.close()
            raise
        self._input, self._output = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, order: dict[str, Any], *, end: float, timeout: float) -> dict[str, Any]:
        self.asked += 1
        # One that has ended is known by its missing answer.
        with suppress(OSError):
            self._input.write(json.dumps(order).encode() + b"\n")
            self._input.flush()
        line = self._line(end)
        if line is None:
            raise WorkerError(f"no complete answer within {timeout:g} s")
        try:
            answer = json.loads(line)
        except ValueError as exc:
            raise WorkerError("Apprise ended without an answer" + (self._why() if not line else "")) from exc
        return dict(answer)

    def _line(self, end: float) -> bytes | None:
        """Return what the process writes up to the end of a line, or up to its own end; None after the timeout."""
        received, output = b"", self._output.fileno()
        while not received.endswith(b"\n") and len(received) < LONGEST_ANSWER:
            if not select([output], [], [], max(end - time.monotonic(), 0))[0]:
                return None
            part = os.read(output, 65_536)
            if not part:
                break
            received += part
        return received

    def _why(self) -> str:
        """Return the type of the error that ended the process. Its message could show the target."""
        self._process.wait()
        self._errors.seek(0)
        last = self._errors.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
        return f": {last.partition(':')[0][:100] or 'it was killed'}"

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._input, self._output, self._errors):
            with suppress(OSError):  # what could not be written to a process that has ended
                stream.close()


WORKERS = Workers()
