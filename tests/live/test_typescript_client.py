"""The TypeScript client against real web processes: what it yields is exactly the log, whatever its connection does."""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from runner.home import REPOSITORY
from runner.ports import free_port
from runner.testing import ended
from tests.chaos.wire import Wire
from tests.live import log
from tests.live.conftest import token_of
from tests.live.parts import Web, until
from workflows.eventlog import events
from workflows.models import Run
from workflows.naming import DEFAULT
from workflows.states import RunState

CLIENT = REPOSITORY / "clients/typescript"
# Seconds. A ticket is asked for again before it ends.
TICKET = 2
# How long it is cut, and how long it may be whole at most. A busy machine takes a while to connect.
SHORT, LONG = (8.0, 2.0), (120.0, 5.0)
NODE = shutil.which("node") if shutil.which("npm") else None


@pytest.fixture(scope="module")
def node() -> str:
    """Node, with the client built. In the gate it may not be missing."""
    if NODE is None:
        assert not os.environ.get("CI"), "node and npm are missing"
        pytest.skip("needs node and npm")
    subprocess.run([REPOSITORY / "scripts/build-client"], check=True, capture_output=True)
    return NODE


@dataclass
class Follower:
    """A process that follows the run through the wire and prints what it gets."""

    process: subprocess.Popen[str]
    lines: list[dict[str, Any]] = field(default_factory=list)

    def read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as printed:
            for line in printed:
                self.lines.append(json.loads(line))


@contextmanager
def following(node: str, errors: Path, **order: object) -> Iterator[Follower]:
    # Node 20 has a WebSocket only with this flag; later ones know it and ignore it.
    program = str(CLIENT / "test/follow-a-run.js")
    command = [node, "--no-warnings", "--experimental-websocket", program, json.dumps(order)]
    with errors.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    follower = Follower(process)
    reader = threading.Thread(target=follower.read)
    reader.start()
    try:
        yield follower
    finally:
        process.kill()
        ended(process)
        reader.join()


@contextmanager
def cutting(wire: Wire, dice: random.Random, *, longest: float) -> Iterator[None]:
    """Cut what goes through the wire, again and again, until the block ends."""
    stopped = threading.Event()

    def cut() -> None:
        while not stopped.wait(dice.uniform(0.3, longest)):
            wire.cut()

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def end(run: Run) -> None:
    with transaction.atomic():
        data = events.WorkflowCompleted(airflow=DEFAULT, state=RunState.SUCCESS, attempt=1, duration_s=1.5)
        events.record(data, now=timezone.now(), run=run)


def test_over_a_wire_that_is_cut_and_with_tickets_that_end_it_yields_exactly_the_log(
    web: Web, ada: User, run: Run, node: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seconds, longest = LONG if request.config.getoption("--long") else SHORT
    seed = int(os.environ.get("SVOPS_TEST_SEED") or secrets.randbelow(10**6))
    print(f"SVOPS_TEST_SEED={seed}")  # noqa: T201 - shown when the test fails, to run it again
    dice = random.Random(seed)  # noqa: S311 - chance that can be repeated
    wire = Wire(free_port(), web.port)
    wire.start()
    order = {"run": str(run.pk), "url": web.url, "through": f"http://127.0.0.1:{wire.port}", "key": token_of(ada)}
    log.append(run, 3_000)
    transports = {name: tmp_path / f"{name}.log" for name in ("websocket", "events")}

    with ExitStack() as stack:
        followers = [
            stack.enter_context(following(node, path, transport=name, ttl=TICKET, **order))
            for name, path in transports.items()
        ]
        with cutting(wire, dice, longest=longest):
            stop = time.monotonic() + seconds
            written = 3_000
            while time.monotonic() < stop:
                count = dice.randint(1, 300)
                log.append(run, count)
                written += count
                has_one = lambda: any(len(one.lines) >= written for one in followers)  # noqa: B023, E731
                until(has_one, within=60, or_say=lambda: said(transports, followers))
            end(run)
            until(
                lambda: all(has_ended(one) for one in followers), within=60, or_say=lambda: said(transports, followers)
            )

    expected = [json.loads(frame) for frame in log.frames_after(0, [run])]
    for follower in followers:
        *got, counts = follower.lines
        assert follower.process.returncode == 0
        assert [event["id"] for event in got] == [event["id"] for event in expected]
        assert got == expected
        assert counts["cuts"] >= 2
        assert counts["tickets"] >= 2


def has_ended(follower: Follower) -> bool:
    return follower.process.poll() is not None


def said(logs: dict[str, Path], followers: list[Follower]) -> str:
    counts = [f"{len(follower.lines)} lines, exit {follower.process.poll()}" for follower in followers]
    return "\n".join([*counts, *(path.read_text() for path in logs.values())])


def test_a_run_that_one_may_not_see_is_an_error_and_not_a_wait(
    web: Web, ada: User, run: Run, node: str, tmp_path: Path
) -> None:
    errors = tmp_path / "errors"
    unknown = "11111111-2222-3333-4444-555555555555"
    order = {"run": unknown, "url": web.url, "through": web.url, "key": token_of(ada), "ttl": 60}

    with following(node, errors, transport="websocket", **order) as follower:
        until(lambda: has_ended(follower), within=30)

    assert follower.lines == []
    assert follower.process.returncode == 1
    assert "SvopsError" in errors.read_text()


@pytest.mark.parametrize("made", ["client-types", "vendor-client"])
def test_what_is_made_from_the_api_or_the_client_is_not_stale(node: str, made: str) -> None:
    """The client's types are made from the API's description, the console's copy of the client from the client."""
    checked = subprocess.run([REPOSITORY / "scripts" / made, "--check"], capture_output=True, text=True, check=False)

    assert (checked.returncode, checked.stderr) == (0, "")
