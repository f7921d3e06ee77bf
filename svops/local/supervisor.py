"""Running the parts: honcho starts, joins and stops the processes; here is what it leaves open.

honcho ends a child by its process group and takes the end of its output for the end of the child. Airflow and
Celery fork: their children hold the output open, also when the child itself has died. So a child here leads a
session, is over when it ends itself, and takes its session with it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import FrameType
from typing import IO, Any

import honcho.manager
from honcho.manager import Manager
from honcho.printer import Message, Printer
from honcho.process import Process

from svops.local import sessions
from svops.local.errors import StartError, with_tail
from svops.local.part import Command, Part

# Seconds from the polite signal to the forced one. Airflow's scheduler takes up to 8 to end, and for ever while a
# task runs; a task that was cut short runs again at the next start.
KILL_WAIT = 10
honcho.manager.KILL_WAIT = KILL_WAIT
START_TIMEOUT = 30
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Ready = Callable[[Part, float], None]
# Called once everything is ready; None keeps the platform running, a number ends it with that exit code.
Then = Callable[[threading.Event], int | None]


class StoppedError(Exception):
    """Somebody asked the platform to stop."""


class LogPrinter(Printer):  # type: ignore[misc] # honcho is not typed
    """Writes what each process says into a log of its own, and to the terminal when asked to."""

    def __init__(self, logs: Path, *, verbose: bool) -> None:
        super().__init__(sys.stdout)
        self._files = contextlib.ExitStack()
        self._logs = logs
        self._open: dict[str, Any] = {}
        self._verbose = verbose

    def write(self, message: Message) -> None:
        if self._verbose:
            super().write(message)
        data = message.data if isinstance(message.data, bytes) else message.data.encode()
        self._file(message.name).write(data)

    def close(self) -> None:
        self._files.close()

    def _file(self, name: str) -> Any:
        if name not in self._open:
            path = log_of(self._logs, name)
            if path.is_file():
                path.replace(path.with_suffix(".log.1"))
            self._open[name] = self._files.enter_context(path.open("wb", buffering=0))
        return self._open[name]


def log_of(logs: Path, name: str) -> Path:
    return logs / f"{name}.log"


class Child(Process):  # type: ignore[misc] # honcho is not typed
    """A process that leads a session, and takes the whole session with it when it ends or we are gone."""

    uid: int | None = None
    # Noted by the supervisor: whoever asks for its parent later may be an orphan by then.
    supervisor = 0

    def run(self, events: Any = None, ignore_signals: bool = False) -> None:
        self._events = events
        child = subprocess.Popen(  # noqa: S603 - the commands are ours
            # Through the shell, so that a command that can not be found is a child that ended with 127.
            ["/bin/sh", "-c", 'exec "$@"', "sh", *self.cmd],
            env=self.env,
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=self.uid,
            group=self.uid,
            extra_groups=None if self.uid is None else [],
        )
        # Only after the start: an ignored signal stays ignored in what is started.
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self._send_message({"pid": child.pid}, type="start")
        reader = threading.Thread(target=self._relay, args=(child.stdout,), daemon=True)
        reader.start()
        threading.Thread(target=_end_with_parent, args=(child.pid, self.supervisor), daemon=True).start()
        child.wait()
        sessions.end(child.pid)
        reader.join(timeout=2)
        self._send_message({"returncode": child.returncode}, type="stop")

    def _relay(self, output: IO[bytes]) -> None:
        for line in output:
            self._send_message(line)


def _end_with_parent(leader: int, parent: int) -> None:
    """End the session when the supervisor, whose child we are, has been killed."""
    while os.getppid() == parent:
        time.sleep(1)
    sessions.end(leader, grace=KILL_WAIT)


class Supervisor(Manager):  # type: ignore[misc] # honcho is not typed
    """Runs the parts until a signal, the death of one, or the end of what was to be done with them."""

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        logs: Path,
        remember_in: Path,
        verbose: bool,
        stopping: Callable[[], None] = lambda: None,
    ) -> None:
        self._log_printer = LogPrinter(logs, verbose=verbose)
        super().__init__(self._log_printer)
        self._process_ctor = Child
        self._parts = parts
        self._logs = logs
        self._remember_in = remember_in
        self._stopping = stopping
        self._stop = threading.Event()
        self._dead: str | None = None
        self._outcome: int | None = None
        self._failure: BaseException | None = None
        for command in (command for part in parts for command in part.commands):
            self._add(command)

    def run(self, *, ready: Ready, then: Then) -> int:
        """Run everything and return the exit code; StartError tells in a sentence why it could not go on."""
        self._watcher = threading.Thread(target=self._watch, args=(ready, then), daemon=True)
        try:
            self.loop()
            self._watcher.join(timeout=KILL_WAIT)
        finally:
            self._end_sessions()
            self._log_printer.close()
        if self._failure:
            raise self._failure
        if self._dead:
            raise StartError(self._death_of(self._dead))
        return self._outcome or 0

    # --- honcho's hooks ---------------------------------------------------------------------------------

    def terminate(self) -> None:
        if not self._terminating:
            # honcho calls this for the first child that ended, or for a signal, when none has.
            self._dead = next((name for name in self._processes if self._ended(name)), None)
            self._stopping()
        self._stop.set()
        super().terminate()

    def kill(self) -> None:
        super().kill()
        for state in self._processes.values():
            sessions.end(state["pid"])

    def _start(self) -> None:
        with _signals_held():
            super()._start()
            self._await_pids()
            sessions.remember(
                self._remember_in,
                [sessions.Session.of(name, state["pid"]) for name, state in self._processes.items()],
            )
            # The terminal was closed.
            signal.signal(signal.SIGHUP, lambda _number, _frame: os.kill(os.getpid(), signal.SIGTERM))
        self._watcher.start()

    # ----------------------------------------------------------------------------------------------------

    def _add(self, command: Command) -> None:
        child = self.add_process(command.name, list(command.argv), env=dict(command.env), cwd=command.cwd)
        child.uid = command.uid
        child.supervisor = os.getpid()

    def _await_pids(self) -> None:
        """Wait until each child has its number: without it honcho could not end the child."""
        deadline = time.monotonic() + START_TIMEOUT
        later = []
        while not self._all_started():
            try:
                message = self.events.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                missing = [name for name, state in self._processes.items() if "pid" not in state]
                raise StartError(f"{', '.join(missing)} could not be started in {START_TIMEOUT} s.") from None
            if message.type == "start":
                self._processes[message.name]["pid"] = message.data["pid"]
            else:
                later.append(message)
        for message in later:
            self.events.put(message)

    def _watch(self, ready: Ready, then: Then) -> None:
        try:
            self._await_parts(ready)
            self._outcome = then(self._stop)
        except StoppedError:
            return
        except BaseException as exc:  # noqa: BLE001 - the edge of a thread: run() raises it again
            self._fail(exc)
        if self._outcome is not None:
            os.kill(os.getpid(), signal.SIGTERM)

    def _fail(self, exc: BaseException) -> None:
        # What fails because everything is being stopped is not why it is being stopped.
        if not self._stop.is_set():
            self._failure = exc
            self._stop.set()
            os.kill(os.getpid(), signal.SIGTERM)

    def _await_parts(self, ready: Ready) -> None:
        start = time.monotonic()
        with ThreadPoolExecutor(max(1, len(self._parts))) as pool:
            waits = [pool.submit(self._await_part, part, start, ready) for part in self._parts]
            for wait in as_completed(waits):
                if exc := wait.exception():
                    self._fail(exc)
        if self._stop.is_set():
            raise StoppedError

    def _await_part(self, part: Part, start: float, ready: Ready) -> None:
        while missing := part.waiting_for():
            if self._stop.wait(part.poll):
                raise StoppedError
            if time.monotonic() - start > part.timeout:
                log = log_of(self._logs, part.commands[0].name)
                raise StartError(with_tail(f"{part.name} was not ready after {part.timeout:.0f} s: {missing}.", log))
        ready(part, time.monotonic() - start)

    def _ended(self, name: str) -> bool:
        return self._processes[name].get("returncode") is not None

    def _death_of(self, name: str) -> str:
        code = self._processes[name]["returncode"]
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return with_tail(f"{name} {how}, so everything else was stopped.", log_of(self._logs, name))

    def _end_sessions(self) -> None:
        for state in self._processes.values():
            if pid := state.get("pid"):
                sessions.end(pid)
        self._remember_in.unlink(missing_ok=True)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Note signals to stop, and deliver them only afterwards, to the handlers that are then in place."""
    noted: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if noted:
            os.kill(os.getpid(), noted[0])
