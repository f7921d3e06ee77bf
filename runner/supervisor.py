"""Runs the parts: starts their processes, waits until all are ready, and stops everything at the end.

A process that dies (`runner.restarts`) or hangs (`runner.hangs`) is started again. Only a part that cannot live ends
the platform.
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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import FrameType

from runner import hangs, sessions
from runner.errors import StartError, last_words, with_tail
from runner.home import REPOSITORY
from runner.part import Part
from runner.process import Log, Process, log_of
from runner.restarts import Death
from runner.sessions import Session

# Seconds from the polite signal to the forced one. Airflow's scheduler takes up to 8 to end, and does not end while a
# task runs; an interrupted task runs again at the next start.
KILL_WAIT = 10
# Seconds between two looks at the processes of the sessions.
LOOK_INTERVAL = 10
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Ready = Callable[[Part, float], None]
# Called when everything is ready. None keeps the platform running; a number ends it with that exit code.
Then = Callable[[threading.Event], int | None]


class StoppedError(Exception):
    """Somebody asked the platform to stop."""


class Supervisor:
    """Runs the parts until a signal, a part that cannot live, or the end of `then`.

    `say` prints one line about a process that is started again.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        logs: Path,
        remember_in: Path,
        verbose: bool,
        say: Callable[[str], None],
        stopping: Callable[[], None] = lambda: None,
    ) -> None:
        self._parts = parts
        self._logs = logs
        self._remember_in = remember_in
        self._verbose = verbose
        self._say = say
        self._stopping = stopping
        self._stop = threading.Event()
        # Why it ends: the first entry counts. A signal's handler may put one: SimpleQueue is reentrant.
        self._ends: queue.SimpleQueue[int | BaseException] = queue.SimpleQueue()
        self._sessions: dict[str, Session] = {}
        self._sessions_lock = threading.Lock()
        self._processes: dict[str, Process] = {}

    def run(self, *, ready: Ready, then: Then) -> int:
        """Run everything and return the exit code. Raises StartError with the reason if it cannot go on."""
        # They stay: a second signal, as `make` forwards the terminal's, must not interrupt the stop.
        for number in STOP_SIGNALS:
            signal.signal(number, self._note_signal)
        watcher = threading.Thread(target=self._watch, args=(ready, then), daemon=True)
        guard = self._start_guard()
        try:
            self._start()
            watcher.start()
            threading.Thread(target=self._look_at_sessions, daemon=True).start()
            end = self._ends.get()
        finally:
            self._stop.set()
            self._stopping()
            self._end_all()
            guard.communicate()
        watcher.join(timeout=KILL_WAIT)
        if isinstance(end, BaseException):
            raise end
        return end

    def _note_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._ends.put(0)

    # --- processes ----------------------------------------------------------------------------------------

    def _start_guard(self) -> subprocess.Popen[bytes]:
        # It must outlive the signals that end the supervisor's group.
        ignoring = 'trap "" INT TERM HUP; exec "$@"'
        guard = [sys.executable, "-m", "runner.guard", str(self._remember_in), str(os.getpid())]
        return subprocess.Popen(  # noqa: S603 - our own module
            ["/bin/sh", "-c", ignoring, "sh", *guard],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _start(self) -> None:
        for command in (command for part in self._parts for command in part.commands):
            log = Log(self._logs, command.name, verbose=self._verbose)
            process = Process(command, log, started=self._remember, died=self._note_death)
            self._processes[command.name] = process
            process.start()

    def _remember(self, name: str, leader: int) -> None:
        session = Session.of(name, leader)
        with self._sessions_lock:
            self._sessions[name] = session
            self._store_sessions()

    def _store_sessions(self) -> None:
        # On a full disk the old file stays.
        with contextlib.suppress(OSError):
            sessions.remember(self._remember_in, list(self._sessions.values()))

    def _look_at_sessions(self) -> None:
        """Keep the list of processes in each session up to date: the first ones may end long before the rest."""
        while not self._stop.wait(LOOK_INTERVAL):
            with self._sessions_lock:
                self._sessions = {name: session.looked_at_again() for name, session in self._sessions.items()}
                self._store_sessions()

    def _note_death(self, death: Death) -> None:
        if self._stop.is_set():
            return
        if death.wait is not None:
            self._say(death.again)
        else:
            self._ends.put(StartError(last_words(death.final, log_of(self._logs, death.name))))

    def _end_all(self) -> None:
        # First: they would record that the others do not answer any more.
        users = [command.name for part in self._parts if part.uses_others for command in part.commands]
        self._ask_to_end([self._processes[name] for name in users if name in self._processes], within=KILL_WAIT / 2)
        for process in self._ask_to_end(list(self._processes.values()), within=KILL_WAIT):
            process.kill()
            process.wait(time.monotonic() + KILL_WAIT)
        with self._sessions_lock:
            for session in self._sessions.values():
                session.end()
            self._remember_in.unlink(missing_ok=True)

    def _ask_to_end(self, processes: Sequence[Process], *, within: float) -> list[Process]:
        """Ask the processes to end. Return those that still run after so many seconds."""
        for process in processes:
            process.end()
        deadline = time.monotonic() + within
        return [process for process in processes if not process.wait(deadline)]

    # --- readiness ----------------------------------------------------------------------------------------

    def _watch(self, ready: Ready, then: Then) -> None:
        try:
            self._await_parts(ready)
            outcome = then(self._stop)
        except StoppedError:
            return
        except BaseException as exc:  # noqa: BLE001 - the edge of a thread: run() raises it again
            self._ends.put(exc)
            return
        if outcome is not None:
            self._ends.put(outcome)

    def _await_parts(self, ready: Ready) -> None:
        start = time.monotonic()
        with ThreadPoolExecutor(max(1, len(self._parts))) as pool:
            waits = [pool.submit(self._await_part, part, start, ready) for part in self._parts]
            for wait in as_completed(waits):
                # At once: the others may wait for minutes yet.
                if (exc := wait.exception()) and not isinstance(exc, StoppedError):
                    self._ends.put(exc)
                    self._stop.set()
        if self._stop.is_set():
            raise StoppedError

    def _await_part(self, part: Part, start: float, ready: Ready) -> None:
        while missing := self._held(part) or part.waiting_for() or self._unrecorded(part):
            if self._stop.wait(part.poll):
                raise StoppedError
            if time.monotonic() - start > part.timeout:
                log = log_of(self._logs, part.commands[0].name)
                raise StartError(with_tail(f"{part.name} was not ready after {part.timeout:.0f} s: {missing}.", log))
        for command in part.commands:
            self._processes[command.name].was_ready = True
        self._watch_for_hangs(part)
        ready(part, time.monotonic() - start)

    def _watch_for_hangs(self, part: Part) -> None:
        # Each in a thread of its own: the check of one that hangs takes as long as its timeout.
        for command in (command for command in part.commands if command.check):
            threading.Thread(
                target=hangs.watch,
                args=(self._processes[command.name], command.check),
                kwargs={"start": part.timeout, "stop": self._stop},
                name=f"checks {command.name}",
                daemon=True,
            ).start()

    def _unrecorded(self, part: Part) -> str:
        """Return which process is not on record yet, or "". Until then the next start could not end it."""
        with self._sessions_lock:
            return ", ".join(
                f"{command.name} is not recorded" for command in part.commands if command.name not in self._sessions
            )

    def _held(self, part: Part) -> str:
        """Release the processes of the part that may begin now. Return what the others wait for; "" if all run."""
        missing = ""
        for process in (self._processes[command.name] for command in part.commands):
            if process.is_held and process.command.after:
                if why := process.command.after():
                    missing = f"{process.command.name} has not begun, because {why}"
                else:
                    process.release()
        return missing
