"""One command of the platform: a process that leads a session, is started again when it dies, and has one log.

Airflow and Celery fork, and their children keep the output open after the process itself has died. So a process has
ended when it has ended itself, whatever its output does, and the whole session ends with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from runner import sessions
from runner.home import private_opener
from runner.part import HELD, Command
from runner.restarts import Death, Restarts

# Through the shell, so that a missing command is a process that ends with 127. If the line never comes, because the
# supervisor is gone, the command does not run.
RUN = 'exec "$@"'
RUN_AFTER_A_LINE = 'read -r _ && exec "$@" </dev/null'


class Log:
    """The log of one process, and the terminal if `verbose`. The log of the start before is kept beside it."""

    def __init__(self, folder: Path, name: str, *, verbose: bool) -> None:
        path = log_of(folder, name)
        if path.is_file():
            path.replace(path.with_suffix(".log.1"))
        self._file = open(path, "wb", buffering=0, opener=private_opener)  # noqa: SIM115 - as long as the process runs
        self._name = name
        self._verbose = verbose

    def write(self, line: bytes) -> None:
        self._file.write(line)
        if self._verbose:
            sys.stdout.write(
                f"{time.strftime('%H:%M:%S')} {self._name:<18}| {line.decode(errors='replace').rstrip()}\n"
            )
            sys.stdout.flush()

    def close(self) -> None:
        self._file.close()


def log_of(logs: Path, name: str) -> Path:
    return logs / f"{name}.log"


class Process:
    """Keeps the command running in a thread of its own until `end`, or until it cannot live.

    `started` is called with each new process, `died` with each death that nobody asked for.
    """

    def __init__(
        self, command: Command, log: Log, *, started: Callable[[str, int], None], died: Callable[[Death], None]
    ) -> None:
        self.command = command
        self.is_held = command.after is not None
        self.was_ready = False
        self._log = log
        self._started = started
        self._died = died
        self._ending = threading.Event()
        # Between the look at `_ending` and the new child no other thread may ask for the end.
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._hung, self._worked = "", True
        self._thread = threading.Thread(target=self._keep_running, name=command.name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def release(self) -> None:
        """Let a held process begin."""
        with self._lock:
            self.is_held = False
            if self._child and self._child.stdin and not self._child.stdin.closed:
                # It may have died just now. The next one is not held.
                with suppress(OSError):
                    self._child.stdin.write(b"\n")
                    self._child.stdin.close()

    @property
    def child(self) -> int | None:
        """The number of the present process, or None."""
        child = self._child
        return child.pid if child and child.returncode is None else None

    def restart(self, child: int, *, why: str, worked: bool) -> None:
        """Kill the child that hangs; it is started again as one that has died. `worked`: it had worked before."""
        with self._lock:
            if self._child and self._child.pid == child and self._child.poll() is None:
                self._hung, self._worked = why, worked
                # Its own children are frozen as it is: the session ends with it.
                self._signal(signal.SIGKILL)

    def end(self) -> None:
        """Ask it to end. It is not started again."""
        with self._lock:
            self._ending.set()
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        with self._lock:
            self._signal(signal.SIGKILL)

    def wait(self, deadline: float) -> bool:
        """Return whether it has ended by then."""
        if self._thread.ident:
            self._thread.join(timeout=max(0, deadline - time.monotonic()))
        return not self._thread.is_alive()

    def _signal(self, number: signal.Signals) -> None:
        if self._child and self._child.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)

    def _keep_running(self) -> None:
        restarts = Restarts(self.command.name)
        while True:
            began = time.monotonic()
            code = self._run()
            if self._ending.is_set():
                break
            ran = time.monotonic() - began
            death = restarts.after(code=code, ran=ran, was_ready=self.was_ready, hung=self._hung, worked=self._worked)
            self._hung, self._worked = "", True
            self._died(death)
            if death.wait is None or self._ending.wait(death.wait):
                break
        self._log.close()

    def _run(self) -> int:
        with self._lock:
            if self._ending.is_set():
                return 0
            try:
                child = self._child = self._open()
            except OSError as exc:
                # The system has no process or no memory left right now.
                self._log.write(f"{self.command.name} could not be started: {exc.strerror}\n".encode())
                return 1
        reader = threading.Thread(target=self._relay, args=(child.stdout,), daemon=True)
        reader.start()
        self._started(self.command.name, child.pid)
        code = child.wait()
        sessions.end(child.pid)
        reader.join(timeout=2)
        with self._lock, suppress(OSError):
            if child.stdin:
                child.stdin.close()
        return code

    def _open(self) -> subprocess.Popen[bytes]:
        command = self.command
        waits_in_shell = self.is_held and not command.holds_itself
        return subprocess.Popen(  # noqa: S603 - the commands are ours
            ["/bin/sh", "-c", RUN_AFTER_A_LINE if waits_in_shell else RUN, "sh", *command.argv],
            env=dict(command.env) | ({HELD: "1"} if self.is_held and command.holds_itself else {}),
            cwd=command.cwd,
            stdin=subprocess.PIPE if self.is_held else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=command.uid,
            group=command.uid,
            extra_groups=None if command.uid is None else [],
        )

    def _relay(self, output: IO[bytes]) -> None:
        # The log is closed once the process has ended; a child that outlived it may still write.
        with output, suppress(ValueError):
            for line in output:
                self._log.write(line)
