"""Parts for a whole test session, run by `python -m runner serve` in a separate process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

import pytest

from runner.errors import StartError
from runner.home import REPOSITORY

# Seconds in which a process of a test ends even on a busy machine.
STOP_TIMEOUT = 120


def ended(process: subprocess.Popen[Any], *, within: float = STOP_TIMEOUT) -> int:
    """Wait until the process has ended and return its exit code. Raises TimeoutExpired after it has killed it.

    A process that nobody waits for is a ResourceWarning, later and in another test.
    """
    try:
        return process.wait(timeout=within)
    except BaseException:
        process.kill()
        process.wait()
        raise


def ended_by_its_input(process: subprocess.Popen[str]) -> int:
    """Close the input of a process that ends with it, wait, and close its output."""
    with process:  # closes its pipes too
        with suppress(BrokenPipeError):
            cast("IO[str]", process.stdin).close()
        return ended(process)


class Served:
    """Parts that run until `stop`, or until this process ends. `exports` are the variables to reach them."""

    def __init__(self, *names: str, home: Path, env: Mapping[str, str] | None = None) -> None:
        with tempfile.TemporaryFile("w+") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "runner", "serve", *names],
                cwd=REPOSITORY,
                env=dict(os.environ) | dict(env or {}) | {"SVOPS_HOME": str(home)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                # An interrupt is for the tests only: the parts end when our end of their input closes.
                start_new_session=True,
            )
            line = cast("IO[str]", self._process.stdout).readline()
            if not line:
                self.stop()
                errors.seek(0)
                raise StartError(errors.read().strip())
        self.exports: dict[str, str] = json.loads(line)

    def stop(self) -> None:
        """End the parts and wait until they have ended."""
        ended_by_its_input(self._process)


def group_of(item: pytest.Item) -> str:
    """Return the group of tests that one process has to run, one after the other; "" for a test that shares nothing.

    Tests share a fixture that lasts longer than a test: the Airflow of the root conftest.py, what a package starts for
    all of its modules, and what a module starts, or takes from its conftest.py.
    """
    if "airflow_server" in getattr(item, "fixturenames", ()):
        return "airflow"
    # pytest has no public way to ask for the fixtures behind the names. Those of plugins have no place of their own.
    fixtures = [found[-1] for found in item._fixtureinfo.name2fixturedefs.values() if found[-1].baseid]  # type: ignore[attr-defined]
    shared = {fixture.scope: fixture.baseid for fixture in fixtures if fixture.scope != "function"}
    if "package" in shared:
        return str(shared["package"])
    if item.get_closest_marker("airflow") and not shared:
        return "airflows of their own"
    return item.nodeid.partition("::")[0] if shared else ""


def needs_servers(item: pytest.Item) -> bool:
    """Return whether the test starts processes, or commits, so that it can prove what holds between processes."""
    database = item.get_closest_marker("django_db")
    commits = database is not None and bool(database.kwargs.get("transaction") or database.args[:1] == (True,))
    return commits or not {"airflow", "servers"}.isdisjoint(mark.name for mark in item.iter_markers())
