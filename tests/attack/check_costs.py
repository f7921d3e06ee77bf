"""What one request of an attacker costs the web process, in CPU time: accepted, refused, and refused again.

`make attack` prints it; the gate does not run it. CPU time hardly depends on what else the machine does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attack.neighbours.floods import NOBODY, Scene
from tests.attack.target import Target
from tests.attack.test_sockets import handshake
from tests.live.conftest import new_run
from workflows.airflow.tests.scripted import ScriptedAirflow

COUNT = 60  # requests of each kind, one after the other
LIMIT = 150  # of the API in an hour: enough for everything that is accepted
RUNS = 50  # on the page that is listed


@pytest.fixture(scope="module")
def web(directory: Path, scripted_airflow: ScriptedAirflow, db: None) -> Iterator[Target]:
    target = Target(
        directory,
        AIRFLOW_URL=scripted_airflow.url,
        AIRFLOW_USERNAME="admin",
        AIRFLOW_PASSWORD="admin",
        TRUST_PROXY="true",
        SHARED_ANSWER_SECONDS="2",
        RATE_LIMIT_API=f"{LIMIT}/hour",
        RATE_LIMIT_AUTH=f"{COUNT // 2}/hour",
    )
    with target:
        yield target


Raw = Callable[[Scene], bytes]
LOGIN = "/api/v1/auth/login"
KINDS: dict[str, Raw] = {
    "/healthz, by Django": lambda scene: scene.ask("GET", "/healthz", token=NOBODY),
    "/readyz of nobody": lambda scene: scene.ask("GET", "/readyz", token=NOBODY),
    "a body in another encoding": lambda scene: scene.ask(
        "POST", LOGIN, b"x" * 200_000, token=NOBODY, Content_Type="application/json; charset=punycode"
    ),
    "a guessed password": lambda scene: scene.ask("POST", LOGIN, {"username": "admin", "password": "x"}, token=NOBODY),
    "a wrong token": lambda scene: scene.ask("GET", "/api/v1/runs", token="wrong"),
    "a list of 50 runs": lambda scene: scene.ask("GET", f"/api/v1/workflows/{scene.workflow.pk}/runs?page_size=50"),
    "the same, over the limit": lambda scene: scene.ask("GET", f"/api/v1/workflows/{scene.workflow.pk}/runs"),
    "a socket of nobody": lambda scene: handshake("198.51.100.66"),
    "a stream": lambda scene: handshake("198.51.100.67", token=scene.token),
}


def status_of(web: Target, raw: bytes) -> str:
    with web.connect() as connection:
        connection.sendall(raw)
        return connection.recv(4096)[9:12].decode(errors="replace")


@pytest.mark.timeout(0)
def test_what_a_request_costs(
    web: Target, airflow: ScriptedAirflow, record_property: Callable[[str, object], None]
) -> None:
    scene = Scene(web, airflow)
    for _ in range(RUNS):
        new_run(scene.workflow)
    costs: dict[str, tuple[float, Counter[str]]] = {}
    for name, raw in KINDS.items():
        order = raw(scene)
        if "over the limit" in name:
            while status_of(web, order) != "429":
                pass
        status_of(web, order)  # whatever is made once
        with web.measured() as cost:
            statuses = Counter(status_of(web, order) for _ in range(COUNT))
        costs[name] = (1000 * cost.cpu_s / COUNT, statuses)
    record_property("costs", costs)

    assert costs["a list of 50 runs"][1] == Counter({"200": COUNT})
    assert set(costs["the same, over the limit"][1]) == {"429"}
