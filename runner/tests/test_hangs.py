"""A process that lives but does not work any more is started again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import requests

from runner.hangs import Hangs
from runner.part import Check
from runner.ports import free_port
from runner.tests.commands import start
from runner.tests.test_supervisor import DEADLINE, Stand, eventually, survivors

START = 300.0
CHECK = Check(wrong=lambda: "", deadline=60)
OWN = ("web", "worker", "beat", "redis")
# It has become ready, and shows every moment that it works.
SHOWS_LIFE = 'while true; do echo up > "$READY"; sleep 0.1; done'


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    stand = Stand(tmp_path / "home", timeout=20)
    yield stand
    stand.end()


@pytest.mark.parametrize(
    ("checks", "verdicts"),
    [
        # It works.
        ([(0, ""), (10, ""), (500, "")], ["", "", ""]),
        # It is slow for a while: less than its deadline.
        ([(0, ""), (10, "mute"), (50, "mute"), (69, "mute"), (80, ""), (90, "mute")], [""] * 6),
        # It hangs.
        ([(0, ""), (10, "mute"), (69, "mute"), (70, "mute")], ["", "", "", "mute, for 60 s"]),
        # It fails in another way meanwhile: the last one is told.
        ([(0, ""), (10, "mute"), (75, "answers 500")], ["", "", "answers 500, for 65 s"]),
        # It starts: its part may take longer than the deadline.
        ([(0, "mute"), (100, "mute"), (299, "mute"), (300, "mute")], ["", "", "", "mute, for 300 s"]),
    ],
)
def test_what_hangs_and_what_is_only_slow(checks: Sequence[tuple[float, str]], verdicts: Sequence[str]) -> None:
    hangs = Hangs(CHECK, start=START)

    assert [hangs.after(wrong, asked=at, now=at) for at, wrong in checks] == verdicts


def test_a_new_process_has_the_time_of_a_start_again() -> None:
    hangs = Hangs(CHECK, start=START)
    hangs.after("", asked=0, now=0)
    hangs.after("mute", asked=10, now=10)

    hangs.begin()

    assert hangs.after("mute", asked=75, now=75) == ""
    assert not hangs.worked


def test_a_frozen_process_is_started_again_with_one_line_and_the_others_go_on(stand: Stand) -> None:
    process = stand.started(one=SHOWS_LIFE, two=SHOWS_LIFE)
    before = stand.leaders()
    assert process.stdout is not None

    os.kill(before["two"], signal.SIGSTOP)
    line = process.stdout.readline()
    assert eventually(lambda: stand.leaders()["two"] != before["two"])
    after = stand.leaders()
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=DEADLINE)

    assert re.fullmatch(
        r"two hung \(it has shown no life for \d+ s, for \d+ s\) and was killed after \d+ s; "
        r"it starts again in 1 s \(restart 1 of 5\)\n",
        line,
    )
    assert (process.returncode, rest, errors) == (0, "", "")
    assert before["one"] == after["one"]
    assert survivors(before | after) == []


@pytest.mark.airflow
@pytest.mark.timeout(1200)
def test_each_frozen_process_of_the_platform_is_started_again(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """With `--long` those of Airflow too: on a busy machine that takes ten minutes."""
    home = tmp_path / "home"
    ports = {"SVOPS_PORT": str(free_port()), "AIRFLOW_PORT": str(free_port())}
    platform = start("up", home=home, env=ports)
    lines = Lines(platform)
    try:
        lines.until("SVOps is ready at")
        leaders = Stand(home, timeout=0).leaders()
        frozen = leaders if pytestconfig.getoption("--long") else {name: leaders[name] for name in OWN}
        for leader in frozen.values():
            os.kill(leader, signal.SIGSTOP)

        for name in frozen:
            lines.until(f"{name} hung (")

        assert eventually(lambda: is_ready(f"http://127.0.0.1:{ports['SVOPS_PORT']}"), within=300), lines.all
    finally:
        platform.send_signal(signal.SIGTERM)
        platform.communicate(timeout=120)


class Lines:
    """The output of a process. Lines that were read are kept."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.all = ""

    def until(self, text: str) -> None:
        assert self._process.stdout is not None
        while text not in self.all:
            line = self._process.stdout.readline()
            assert line, self.all
            self.all += line


def is_ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=20).ok
    except requests.RequestException:
        return False
