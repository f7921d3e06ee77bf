"""Two real Airflows behind one platform: 3.3, which `make up` starts, and 2.11, which an administrator adds."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from runner.home import REPOSITORY
from runner.ports import free_port
from runner.testing import Served
from runner.tests.commands import start
from tests.live.parts import until
from tests.live.readers import Frame, Loop, WebSocketReader

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(
        os.environ.get("SVOPS_TEST_AIRFLOW") != "2" or not (REPOSITORY / ".venv-airflow").exists(),
        reason="make test-airflow2, after make test, has both Airflows",
    ),
]


@pytest.fixture(autouse=True)
def _takes_minutes(pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("--long"):
        pytest.skip("takes five minutes: make test-airflow2 ARGS=--long")


DAG = "simple_workflow_example"
PASSWORD = "correct horse battery staple"
STORY = [
    "workflow.triggered",
    "workflow.started",
    *["task.started", "task.completed"] * 3,
    "workflow.completed",
]
# Seconds in which a real Airflow on a busy machine has done something.
LONG = 240.0


@dataclass(kw_only=True)
class Client(WebSocketReader):
    """Keeps the events too."""

    events: list[Frame] = field(default_factory=list)

    def take(self, event: Frame) -> None:
        self.events.append(event)
        super().take(event)


class Platform:
    """`make up`, and its API as an administrator uses it."""

    def __init__(self, home: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        env = {"SVOPS_PORT": str(port), "AIRFLOW_PORT": str(free_port()), "SVOPS_ADMIN_PASSWORD": PASSWORD}
        # 3.3 is that of `make up`, whatever the tests run on.
        self._process = start("up", home=home, env={**env, "SVOPS_TEST_AIRFLOW": ""})
        try:
            self._sign_in()
        except BaseException:
            self.stop()
            raise

    def _sign_in(self) -> None:
        assert self._process.stdout is not None
        while "SVOps is ready" not in (line := self._process.stdout.readline()):
            assert line, "it has ended"
        signed_in = self._call("POST", "/auth/login", json={"username": "admin", "password": PASSWORD})
        self.token = str(signed_in["access_token"])

    def get(self, path: str, **params: Any) -> Any:
        return self._call("GET", path, params=params)

    def post(self, path: str, **body: Any) -> Any:
        return self._call("POST", path, json=body)

    def _call(self, method: str, path: str, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"} if hasattr(self, "token") else {}
        answer = requests.request(method, f"{self.url}/api/v1{path}", headers=headers, timeout=120, **options)
        assert answer.ok, answer.text
        return answer.json()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=180)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    platform = Platform(tmp_path / "platform")
    yield platform
    platform.stop()


class Old:
    """A 2.11 that can be ended and started again at the same address."""

    def __init__(self, home: Path) -> None:
        self._home, self._port = home, free_port()
        self.served: Served | None = None
        self.begin()

    def begin(self) -> None:
        self.served = Served("airflow2", home=self._home, env={"AIRFLOW_PORT": str(self._port)})

    def end(self) -> None:
        if self.served:
            self.served.stop()
        self.served = None


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Old]:
    old = Old(tmp_path / "old")
    yield old
    old.end()


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.stop()


def test_one_platform_runs_both_and_one_that_is_killed_under_load_makes_no_run_of_the_other_late(
    platform: Platform, old: Old, loop: Loop
) -> None:
    connect(platform, old)
    workflows = {name: new_workflow(platform, name) for name in ("default", "old")}
    reader = Client(bases=[platform.url], token=platform.token, cursor=newest(platform))
    job = loop.start(reader.run())
    try:
        first = {name: trigger(platform, workflow) for name, workflow in workflows.items()}
        both_end(platform, first)
        until(lambda: all(story(reader, run_id) == STORY for run_id in first.values()), within=60)

        old.end()
        until(lambda: not airflow(platform, "old")["reachable"], within=LONG)
        waiting = trigger(platform, workflows["old"])
        lost_for = time.monotonic()
        meanwhile = [trigger(platform, workflows["default"]) for _ in range(10)]
        for run_id in meanwhile:
            until(lambda run_id=run_id: state(platform, run_id) == "success", within=LONG)  # type: ignore[misc]
        # They ended while the other one was away.
        assert run(platform, waiting)["state"] == "pending"
        shown = listed(platform)
        assert shown[waiting]["stale"]
        assert not any(shown[run_id]["stale"] for run_id in meanwhile)
        until(lambda: time.monotonic() - lost_for > 60, within=LONG)

        old.begin()
        until(lambda: state(platform, waiting) == "success", within=LONG)
        everything = [*first.values(), waiting, *meanwhile]
        until(lambda: all(story(reader, run_id) == STORY for run_id in everything), within=60)
        assert airflow_events(reader) == [("system.airflow_down", "old"), ("system.airflow_up", "old")]
        assert not reader.wrong
    finally:
        job.cancel()


def connect(platform: Platform, old: Old) -> None:
    assert old.served is not None
    exports = old.served.exports
    options = {"username": exports["AIRFLOW_USERNAME"], "password": exports["AIRFLOW_PASSWORD"]}
    platform.post("/airflows", name="old", url=exports["AIRFLOW_URL"], options=options)
    until(lambda: has_dag(platform, "old"), within=LONG)


def has_dag(platform: Platform, name: str) -> bool:
    return any(dag["dag_id"] == DAG for dag in platform.get("/dags", airflow=name)["results"])


def new_workflow(platform: Platform, name: str) -> int:
    made = platform.post("/workflows", name=f"On {name}", dag_id=DAG, airflow=name)
    assert made["airflow"] == name
    return int(made["id"])


def trigger(platform: Platform, workflow: int) -> str:
    return str(platform.post(f"/workflows/{workflow}/runs", parameters={"processing_time": 0})["id"])


def listed(platform: Platform) -> dict[str, Any]:
    return {run["id"]: run for run in platform.get("/runs", page_size=50)["results"]}


def run(platform: Platform, run_id: str) -> Any:
    return listed(platform)[run_id]


def state(platform: Platform, run_id: str) -> str:
    return str(run(platform, run_id)["state"])


def both_end(platform: Platform, runs: dict[str, str]) -> None:
    for name, run_id in runs.items():
        until(lambda run_id=run_id: state(platform, run_id) == "success", within=LONG)  # type: ignore[misc]
        assert run(platform, run_id)["airflow"] == name


def airflow(platform: Platform, name: str) -> Any:
    return platform.get(f"/airflows/{name}")


def newest(platform: Platform) -> int:
    return int(platform.get("/events", after=0, limit=1000)["results"][-1]["id"])


def story(reader: Client, run_id: str) -> list[str]:
    return [event["type"] for event in list(reader.events) if event["run_id"] == run_id]


def airflow_events(reader: Client) -> list[tuple[str, str]]:
    events = (event for event in list(reader.events) if event["type"].startswith("system."))
    return [(event["type"], event["data"]["airflow"]) for event in events]
