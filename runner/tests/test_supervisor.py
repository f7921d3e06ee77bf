"""Whatever ends the platform, one sentence says why and nothing is left running."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner import sessions
from runner.home import REPOSITORY, Home
from runner.supervisor import KILL_WAIT

SERVES = 'echo up > "$READY"; exec sleep 1000'
STAMPS = f'date +%s%N > "$READY.at"; {SERVES}'
DEADLINE = 150.0


class Stand:
    """Shell commands under the supervisor, in a process that the test may treat badly."""

    def __init__(self, home: Path, timeout: float) -> None:
        self.home = Home(home)
        self._timeout = timeout
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, **scripts: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "runner.tests.stand", str(self.home.path), json.dumps(scripts)],
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
    stand = Stand(tmp_path / "home", timeout=120)
    yield stand
    stand.end()


def eventually(condition: Callable[[], bool], *, within: float = DEADLINE) -> bool:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def survivors(leaders: dict[str, int]) -> list[int]:
    return [process.pid for leader in leaders.values() for process in sessions.members(leader)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything_with_exit_code_0(stand: Stand, number: signal.Signals) -> None:
    process = stand.started(one=SERVES, two=SERVES)
    leaders = stand.leaders()

    process.send_signal(number)
    _, errors = process.communicate(timeout=DEADLINE)

    assert (process.returncode, errors) == (0, "")
    assert survivors(leaders) == []
    assert not stand.home.sessions.exists()


def test_a_process_that_dies_is_started_again_with_one_line_and_the_others_go_on(stand: Stand) -> None:
    process = stand.started(one=SERVES, two=SERVES)
    before = stand.leaders()
    assert process.stdout is not None

    os.kill(before["two"], signal.SIGKILL)
    line = process.stdout.readline()
    assert eventually(lambda: stand.leaders()["two"] != before["two"])
    after = stand.leaders()
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=DEADLINE)

    assert re.fullmatch(
        r"two was killed by SIGKILL \(by hand, or by the system when memory ran out\) after \d+ s; "
        r"it starts again in 1 s \(restart 1 of 5\)\n",
        line,
    )
    assert (process.returncode, rest, errors) == (0, "", "")
    assert before["one"] == after["one"]
    assert survivors(before | after) == []


def test_a_process_that_ends_each_time_takes_the_rest_down_with_its_last_words_and_advice(stand: Stand) -> None:
    process = stand.start(one=SERVES, two='echo "[Errno 98] Address already in use"; exit 3')
    output, errors = process.communicate(timeout=DEADLINE)

    log = stand.home.logs / "two.log"
    assert output == (
        "two ended with exit code 3 after 0 s; it starts again in 1 s (restart 1 of 2)\n"
        "two ended with exit code 3 after 0 s; it starts again in 2 s (restart 2 of 2)\n"
    )
    said = "    [Errno 98] Address already in use\n"
    assert errors == (
        "two ended with exit code 3 for the third time in a row, so everything else was stopped. "
        f"Its log is {log}, which ends:\n{said}{said}{said}"
        "What to do: another program listens on its port: stop that program, or set SVOPS_PORT or AIRFLOW_PORT to "
        "another port.\n"
    )
    assert process.returncode == 1
    assert not stand.home.sessions.exists()


def test_a_process_that_fails_once_at_the_start_becomes_ready(stand: Stand) -> None:
    process = stand.start(one=f'[ -e "$READY.once" ] || {{ touch "$READY.once"; exit 0; }}; {SERVES}')
    assert process.stdout is not None

    lines = [process.stdout.readline() for _ in range(2)]

    assert lines == ["one ended with exit code 0 after 0 s; it starts again in 1 s (restart 1 of 2)\n", "ready\n"]


def test_the_death_of_a_process_ends_its_own_children_before_it_starts_again(stand: Stand) -> None:
    process = stand.started(one='sleep 1000 & echo up > "$READY"; wait')
    leaders = stand.leaders()
    assert process.stdout is not None

    os.kill(leaders["one"], signal.SIGKILL)

    assert process.stdout.readline().startswith("one was killed by SIGKILL")
    assert survivors(leaders) == []


def test_a_process_that_waits_for_its_restart_is_not_started_during_the_stop(stand: Stand) -> None:
    process = stand.started(one=SERVES)
    leaders = stand.leaders()
    assert process.stdout is not None
    os.kill(leaders["one"], signal.SIGTERM)
    assert process.stdout.readline().startswith("one was killed by SIGTERM after ")

    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=DEADLINE)

    assert (process.returncode, rest, errors) == (0, "", "")


def test_what_uses_the_others_ends_before_they_are_asked_to(stand: Stand) -> None:
    ends = 'trap \'{}date +%s%N > "$READY.end"; exit 0\' TERM; echo up > "$READY"; while :; do sleep 0.05; done'
    process = stand.started(**{"one": ends.format(""), "two!": ends.format("sleep 0.5; ")})

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=DEADLINE)

    marks = stand.home.directory("marks")
    first, second = (int((marks / f"{name}.end").read_text()) for name in ("two", "one"))
    assert first < second


def test_what_uses_the_others_and_does_not_end_holds_up_nothing(stand: Stand) -> None:
    process = stand.started(**{"one": SERVES, "two!": f"trap '' TERM; {SERVES.replace('exec ', '')}"})
    leaders = stand.leaders()

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=DEADLINE)

    assert process.returncode == 0
    assert survivors(leaders) == []


def test_a_process_that_dies_during_the_stop_is_not_mentioned(stand: Stand) -> None:
    process = stand.started(one=SERVES, two="trap 'exit 7' TERM; echo up > \"$READY\"; while :; do sleep 0.1; done")

    process.send_signal(signal.SIGTERM)
    rest, errors = process.communicate(timeout=DEADLINE)

    assert (process.returncode, rest, errors) == (0, "", "")


def test_a_restarted_process_can_be_stopped_by_a_signal(stand: Stand) -> None:
    process = stand.started(one=SERVES)
    leaders = stand.leaders()
    os.kill(leaders["one"], signal.SIGKILL)
    assert eventually(lambda: stand.leaders() != leaders)
    (stand.home.directory("marks") / "one").unlink()
    assert eventually(lambda: survivors(stand.leaders()) != [])

    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=DEADLINE)

    assert process.returncode == 0
    assert time.monotonic() - began < KILL_WAIT


def test_a_command_that_is_not_there_is_not_tried_again(stand: Stand) -> None:
    process = stand.start(one="exec /nowhere/at-all")

    output, errors = process.communicate(timeout=DEADLINE)

    assert output == ""
    assert errors.startswith("one ended with exit code 127, so everything else was stopped.")
    assert errors.endswith("What to do: a program or a file is missing: run scripts/setup, then start again.\n")
    assert process.returncode == 1


def test_a_held_process_begins_only_after_what_it_waits_for(stand: Stand) -> None:
    process = stand.start(**{"one": f'sleep 0.5; date +%s%N > "$READY.at"; {SERVES}', "two after one": STAMPS})
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"

    marks = stand.home.directory("marks")
    first, second = (int((marks / f"{name}.at").read_text()) for name in ("one", "two"))
    assert first < second


def test_a_held_process_that_dies_before_its_time_is_held_again(stand: Stand) -> None:
    os.mkfifo(stand.home.directory("marks") / "one.go")
    process = stand.start(**{"one": f'read -r go < "$READY.go"; {SERVES}', "two after one": STAMPS})
    assert eventually(lambda: stand.home.sessions.is_file() and len(stand.leaders()) == 2)
    os.kill(stand.leaders()["two"], signal.SIGKILL)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("two was killed by SIGKILL")
    assert not (stand.home.directory("marks") / "two.at").exists()

    (stand.home.directory("marks") / "one.go").write_text("go\n")

    assert process.stdout.readline() == "ready\n"


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


def test_signals_that_come_while_a_signal_is_handled_end_it_too(stand: Stand) -> None:
    process = stand.started(one=SERVES)
    leaders = stand.leaders()

    for _ in range(200):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
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


def test_the_next_start_ends_processes_that_outlived_the_supervisor_and_its_guard(stand: Stand) -> None:
    process = stand.started(one=SERVES)
    leaders = stand.leaders()
    # The supervisor's own group: itself and its guard, which would end the children.
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
