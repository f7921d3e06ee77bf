"""While somebody attacks, others work on: quiet windows and windows under attack take turns in one run.

`make attack` runs it; the gate does not, since a busy machine changes every time that is measured here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from runner.ports import free_port
from tests.attack.neighbours import floods
from tests.attack.neighbours.floods import Scene
from tests.attack.neighbours.neighbour import ACTIONS, Comparison, Neighbour, attacking
from tests.attack.neighbours.sender import Order
from tests.attack.target import Target
from tests.live.parts import until
from workflows.airflow.tests.scripted import ScriptedAirflow

MOST = 2.0  # times as long as in quiet
MOST_MEMORY = 1.1  # times as much as before
SETTLED = 30.0  # seconds that the process has to close what the attack has left

# The number of the item that each flood belongs to.
FLOODS: dict[Callable[[Scene], Order], int] = {
    floods.decoders: 1,
    floods.unfinished_frames: 2,
    floods.slow_heads: 3,
    floods.readiness: 4,
    floods.patterns: 6,
    floods.log_followers: 7,
    floods.questions_on_streams: 8,
    floods.batches: 9,
    floods.many_keys: 10,
    floods.mail_tests: 11,
    floods.apprise_saves: 14,
    floods.sign_ins: 19,
}


class Mailbox:
    """Accepts every mail and keeps none."""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        return "250 OK"


@pytest.fixture(scope="module")
def mail_port() -> Iterator[int]:
    controller = Controller(Mailbox(), hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller.port
    controller.stop()


@pytest.fixture(scope="module")
def web(directory: Path, scripted_airflow: ScriptedAirflow, db: None, mail_port: int) -> Iterator[Target]:
    """A web process with the limits that SVOps has by default, not those of the tests."""
    given = {name: value for name, value in os.environ.items() if name.startswith(("RATE_LIMIT_", "LOG_"))}
    given |= {name: os.environ[name] for name in ("LOGIN_ATTEMPTS", "SHARED_ANSWER_SECONDS") if name in os.environ}
    for name in given:
        del os.environ[name]
    target = Target(
        directory,
        AIRFLOW_URL=scripted_airflow.url,
        AIRFLOW_USERNAME="admin",
        AIRFLOW_PASSWORD="admin",
        TRUST_PROXY="true",
        EMAIL_HOST="127.0.0.1",
        EMAIL_PORT=str(mail_port),
    )
    os.environ.update(given)
    with ahead_of_others(), target:
        yield target


@contextmanager
def ahead_of_others() -> Iterator[None]:
    """Put this process and those that it starts before other work on the machine, if the system allows it."""
    try:
        os.nice(-10)
    except PermissionError:
        yield
        return
    yield
    os.nice(10)


def settled(web: Target, limit: float) -> float:
    """Wait until the memory is below a limit, or the time is over. Return the megabytes."""
    with_deadline = [web.memory_mb]

    def is_small() -> bool:
        with_deadline.append(web.memory_mb)
        return with_deadline[-1] <= limit

    try:
        until(is_small, within=SETTLED)
    except AssertionError:
        return min(with_deadline[1:])
    return with_deadline[-1]


@pytest.mark.timeout(0)
@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.__name__)
def test_others_work_on(
    web: Target,
    airflow: ScriptedAirflow,
    flood: Callable[[Scene], Order],
    request: pytest.FixtureRequest,
) -> None:
    rounds, actions = request.config.getoption("rounds"), request.config.getoption("actions")
    compared = Comparison()
    # The first user of a process waits for what is made once.
    with Neighbour(web) as first:
        first.work(3)
    order = flood(Scene(web, airflow))
    compared.memory_before = web.memory_mb
    for _ in range(rounds):
        with Neighbour(web) as neighbour:
            compared.quiet.append(neighbour.work(actions))
            with attacking(order, compared.sent):
                compared.attacked.append(neighbour.work(actions))
    compared.memory_after = settled(web, compared.memory_before * MOST_MEMORY)
    request.node.user_properties.append(("compared", compared))

    assert {action: round(compared.ratio(action), 1) for action in ACTIONS if compared.ratio(action) > MOST} == {}
    assert compared.memory <= MOST_MEMORY
