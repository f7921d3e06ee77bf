"""One process of the platform with all its children, which can be killed, frozen and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from runner.part import Command

POLL = 0.1


def until(holds: Callable[[], bool], *, within: float, what: str) -> float:
    """Wait for a condition and return the seconds it took; raises `TimeoutError` after `within` seconds."""
    begun = time.monotonic()
    while not holds():
        if time.monotonic() - begun > within:
            raise TimeoutError(f"not within {within:.0f} s: {what}")
        time.sleep(POLL)
    return time.monotonic() - begun


class Process:
    """One process with all its children. `env` is added to that of its command at each start."""

    def __init__(self, command: Command, log: Path, is_ready: Callable[[], bool]) -> None:
        self.name = command.name
        self.env: Mapping[str, str] = {}
        # Held while the process is killed, frozen or revived.
        self.lock = threading.Lock()
        self._command = command
        self._log = log
        self._is_ready = is_ready
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = self._command
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command.argv,
                env={**command.env, **self.env},
                cwd=command.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=command.uid,
                group=command.uid,
                extra_groups=None if command.uid is None else [],
            )

    def wait_until_ready(self, *, within: float = 180) -> None:
        until(self._is_ready, within=within, what=f"{self.name} is ready ({self._log})")

    def bring_up(self, *, within: float = 400) -> None:
        """Start it and wait until it is ready. One that ends meanwhile, since it needs another part, starts again."""
        self.start()

        def is_ready() -> bool:
            if not self.is_alive:
                self.kill()
                self.start()
            return self._is_ready()

        until(is_ready, within=within, what=f"{self.name} is ready ({self._log})")

    def kill(self) -> None:
        """Kill it and all its children at once, as when a container or a machine dies."""
        if self._process is None:
            return
        family = self._signal(signal.SIGKILL)
        self._process.wait(timeout=30)
        psutil.wait_procs(family, timeout=30)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> list[psutil.Process]:
        """Send the signal to every process of the family; the leader first, so that it makes no more of them."""
        if self._process is None:
            return []
        family = {process.pid: process for process in self._family(self._process.pid)}
        for process in family.values():
            _send(process, number)
        # Some may have been made meanwhile.
        for process in self._family(self._process.pid):
            if process.pid not in family:
                family[process.pid] = process
                _send(process, number)
        return list(family.values())

    def _family(self, leader: int) -> list[psutil.Process]:
        """Return the leader, its descendants, and its session, which has the children of dead parents too."""
        found: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            top = psutil.Process(leader)
            found += [top, *top.children(recursive=True)]
        known = {process.pid for process in found}
        for process in psutil.process_iter():
            with suppress(ProcessLookupError, PermissionError):
                if process.pid not in known and os.getsid(process.pid) == leader:
                    found.append(process)
        return found

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
