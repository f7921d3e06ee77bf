"""All processes of a session that is ours are ended; no process of anybody else's is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from runner import sessions
from runner.sessions import Session, end_leftovers, members, remember

DEADLINE = 30.0
Start = Callable[[str], "subprocess.Popen[str]"]
# Prints the number of a child that left the process group, then waits for its input to end.
WITH_A_CHILD = f"{sys.executable} -c 'import os, time; os.setpgid(0, 0); time.sleep(1000)' & echo $!; read -r go"


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a shell script as the leader of a session."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["/bin/sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        sessions.end(process.pid)
        process.communicate()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sessions.json"


def first_line(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def lose_the_leader(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def numbers(leader: int) -> set[int]:
    return {process.pid for process in members(leader)}


def seen_before(session: Session, seconds: float) -> Session:
    """The session as somebody would know it whose processes started earlier and had the same numbers."""
    return Session(session.name, session.leader, [(pid, started - seconds) for pid, started in session.seen])


def test_a_session_has_its_leader_and_the_children_that_left_its_group_and_nobody_else(start: Start) -> None:
    ours, other = start(WITH_A_CHILD), start("exec sleep 1000")
    child = first_line(ours)

    assert numbers(ours.pid) == {ours.pid, child}
    assert numbers(other.pid) == {other.pid}


def test_a_zombie_is_no_member_of_a_session(start: Start) -> None:
    process = start("exit 0")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
    assert numbers(process.pid) == set()


def test_ending_a_session_leaves_the_others_alone(start: Start) -> None:
    ours, other = start(WITH_A_CHILD), start("exec sleep 1000")
    first_line(ours)

    assert sessions.end(ours.pid, grace=5) == 2

    assert numbers(ours.pid) == set()
    assert numbers(other.pid) == {other.pid}


def test_the_rest_of_a_session_that_lost_its_leader_is_ended(start: Start, file: Path) -> None:
    process = start(WITH_A_CHILD)
    child = first_line(process)
    remember(file, [Session.of("one", process.pid)])
    lose_the_leader(process)
    assert numbers(process.pid) == {child}

    assert end_leftovers(file, grace=0) == ["one"]

    assert numbers(process.pid) == set()
    assert not file.exists()


def test_a_child_that_started_later_is_known_after_another_look(start: Start) -> None:
    process = start(f"echo $$; read -r go; {WITH_A_CHILD}")
    first_line(process)
    early = Session.of("one", process.pid)
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    child = first_line(process)

    late = early.looked_at_again()

    lose_the_leader(process)
    assert numbers(process.pid) == {child}
    assert (early.is_ours(), late.is_ours()) == (False, True)
    assert early.looked_at_again() == early


def test_a_number_used_again_by_somebody_else_is_not_ended(start: Start, file: Path) -> None:
    stranger = start("exec sleep 1000")
    remember(file, [seen_before(Session.of("one", stranger.pid), seconds=60)])

    assert end_leftovers(file, grace=0) == []

    assert numbers(stranger.pid) == {stranger.pid}
    assert not file.exists()


def test_a_leaderless_session_in_which_we_saw_nobody_is_not_ended(start: Start, file: Path) -> None:
    stranger = start(WITH_A_CHILD)
    child = first_line(stranger)
    leader = [seen for seen in Session.of("one", stranger.pid).seen if seen[0] == stranger.pid]
    remember(file, [Session("one", stranger.pid, leader)])
    lose_the_leader(stranger)

    assert end_leftovers(file, grace=0) == []

    assert numbers(stranger.pid) == {child}


def test_a_session_is_still_ours_when_the_clock_was_adjusted_by_a_second(start: Start) -> None:
    session = Session.of("one", start("exec sleep 1000").pid)

    assert seen_before(session, seconds=1).is_ours()
    assert seen_before(session, seconds=-1).is_ours()


def test_a_session_that_a_process_has_moved_to_is_not_ended(start: Start, file: Path) -> None:
    ours, stranger = start("exec sleep 1000"), start("exec sleep 1000")
    moved = Session("one", ours.pid, Session.of("two", stranger.pid).seen)
    remember(file, [moved])

    assert end_leftovers(file, grace=0) == []

    assert numbers(ours.pid) | numbers(stranger.pid) == {ours.pid, stranger.pid}


def test_a_list_of_an_earlier_release_ends_no_process(start: Start, file: Path) -> None:
    process = start("exec sleep 1000")
    file.write_text(json.dumps({"boot": "", "sessions": [{"name": "one", "leader": process.pid, "began": 0}]}))

    assert end_leftovers(file, grace=0) == []

    assert numbers(process.pid) == {process.pid}


def test_a_polite_end_lets_a_process_finish(start: Start, tmp_path: Path) -> None:
    mark = tmp_path / "finished"
    process = start(f"trap 'touch {mark}; exit 0' TERM; echo $$; while :; do sleep 0.05; done")
    first_line(process)

    assert Session.of("one", process.pid).end(grace=DEADLINE)

    assert mark.is_file()
    assert process.wait() == 0
