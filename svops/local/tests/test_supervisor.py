"""Whatever ends the platform, one sentence says why and nothing is left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from svops.local import sessions
from svops.local.home import REPOSITORY, Home

SERVES = 'echo up > "$READY"; exec sleep 1000'
DEADLINE = 30.0


class Stand:
    """Shell commands under the supervisor, in a process that the test may treat badly."""

    def __init__(self, home: Path, timeout: float) -> None:
        self.home = Home(home)
        self._timeout = timeout
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, **scripts: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "svops.local.tests.stand", str(self.home.path), json.dumps(scripts)],
            cwd=REPOSITORY,
            env=dict(os.environ) | {"STAND_TIMEOUT": str(self._timeout)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def started(self, **scripts: str) -> subprocess.Popen[str]:
        process = self.start(**scripts)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def leaders(self) -> dict[str, int]:
        written = json.loads(self.home.sessions.read_text())
        return {session["name"]: session["leader"] for session in written["sessions"]}

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()
        sessions.end_leftovers(self.home.sessions, grace=0)


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    stand = Stand(tmp_path / "home", timeout=20)
    yield stand
    stand.end()


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def survivors(leaders: dict[str, int]) -> list[int]:
    return [pid for leader in leaders.values() for pid in sessions.members(leader)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything_with_exit_code_0(stand: Stand, number: signal.Signals) -> None:
    process = stand.started(one=SERVES, two=SERVES)
    leaders = stand.leaders()

    process.send_signal(number)
    _, errors = process.communicate(timeout=DEADLINE)

    assert (process.returncode, errors) == (0, "")
    assert survivors(leaders) == []
    assert not stand.home.sessions.exists()


def test_a_child_that_dies_is_named_with_its_exit_code_and_its_last_words(stand: Stand) -> None:
    script = 'echo up > "$READY"; echo "the disk is full" >&2; read -r go < "$READY.go"; exit 3'
    os.mkfifo(stand.home.directory("marks") / "two.go")
    process = stand.started(one=SERVES, two=script)
    leaders = stand.leaders()

    (stand.home.directory("marks") / "two.go").write_text("go\n")
    _, errors = process.communicate(timeout=DEADLINE)

    log = stand.home.logs / "two.log"
    assert errors == (
        "two ended with exit code 3, so everything else was stopped. "
        f"Its log is {log}, which ends:\n    the disk is full\n"
    )
    assert process.returncode == 1
    assert survivors(leaders) == []


def test_the_death_of_a_child_is_seen_although_its_own_children_live_on(stand: Stand) -> None:
    process = stand.started(one='sleep 1000 & echo up > "$READY"; wait')
    leaders = stand.leaders()

    os.kill(leaders["one"], signal.SIGKILL)
    _, errors = process.communicate(timeout=DEADLINE)

    assert errors.startswith("one was killed by SIGKILL, so everything else was stopped.")
    assert process.returncode == 1
    assert survivors(leaders) == []


def test_a_command_that_is_not_there_is_a_child_that_died(stand: Stand) -> None:
    process = stand.start(one="exec /nowhere/at-all")

    _, errors = process.communicate(timeout=DEADLINE)

    assert errors.startswith("one ended with exit code 127, so everything else was stopped.")
    assert process.returncode == 1


def test_a_child_that_ends_well_but_unasked_is_a_failure_too(stand: Stand) -> None:
    process = stand.start(one=SERVES, two="exit 0")

    _, errors = process.communicate(timeout=DEADLINE)

    assert errors.startswith("two ended with exit code 0, so everything else was stopped.")
    assert process.returncode == 1


def test_a_part_that_does_not_become_ready_is_named_with_what_is_missing(tmp_path: Path) -> None:
    stand = Stand(tmp_path / "home", timeout=1)
    process = stand.start(one=SERVES, slow="exec sleep 1000")

    _, errors = process.communicate(timeout=DEADLINE)

    assert errors.startswith("slow was not ready after 1 s: it has not said so.")
    assert process.returncode == 1
    assert not stand.home.sessions.exists()


def test_a_process_that_left_its_group_and_ignores_signals_ends_too(stand: Stand) -> None:
    stubborn = "import os, signal, time; os.setpgid(0, 0); signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    script = f"{sys.executable} -c \"{stubborn}; open(os.environ['READY'], 'w'); time.sleep(1000)\" & wait"
    process = stand.started(one=script)
    leaders = stand.leaders()
    assert len(survivors(leaders)) == 2

    process.send_signal(signal.SIGINT)
    process.communicate(timeout=DEADLINE)

    assert process.returncode == 0
    assert survivors(leaders) == []


def test_a_signal_in_the_middle_of_the_start_ends_it_and_leaves_nothing(stand: Stand) -> None:
    process = stand.start(one=SERVES, slow="exec sleep 1000")
    assert eventually(stand.home.sessions.is_file)
    leaders = stand.leaders()

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=DEADLINE)

    assert process.returncode == 0
    assert survivors(leaders) == []


def test_children_end_when_the_supervisor_is_killed(stand: Stand) -> None:
    process = stand.started(one=SERVES, two=SERVES)
    leaders = stand.leaders()

    process.kill()
    process.communicate()

    assert eventually(lambda: survivors(leaders) == [])


def test_what_outlived_supervisor_and_helpers_is_ended_by_the_next_start(stand: Stand) -> None:
    process = stand.started(one=SERVES)
    leaders = stand.leaders()
    # The supervisor's own group: itself and honcho's helpers, which would end the children.
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert survivors(leaders) == [leaders["one"]]

    second = stand.start(two=SERVES)
    assert second.stdout is not None
    lines = [second.stdout.readline() for _ in range(2)]

    assert lines == ["ended one\n", "ready\n"]
    assert survivors(leaders) == []


def test_a_second_start_on_the_same_home_is_refused_and_the_first_goes_on(stand: Stand) -> None:
    first = stand.started(one=SERVES)
    leaders = stand.leaders()

    second = stand.start(one=SERVES)
    _, errors = second.communicate(timeout=DEADLINE)

    assert errors == (
        f"SVOps already runs on {stand.home.path} (process {first.pid}): "
        "stop it, or set SVOPS_HOME to another directory.\n"
    )
    assert second.returncode == 1
    assert survivors(leaders) == [leaders["one"]]
