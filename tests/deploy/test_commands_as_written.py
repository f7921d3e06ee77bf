"""The commands of docker-compose.yml, started exactly as written, on a real PostgreSQL, Redis and Airflow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from conftest import AirflowServer
from runner.ports import free_port
from tests.deploy import compose
from tests.deploy.test_image import environment_of_the_image

STAYING = ("web", "worker", "beat")
START_TIMEOUT = 60
STOP_TIMEOUT = 30


class Platform:
    """The services of the file, with the addresses inside Compose's networks replaced by those of this machine."""

    def __init__(self, services: Mapping[str, dict[str, Any]], addresses: Mapping[str, str], image: Path) -> None:
        self._services = services
        self._addresses = addresses
        self._image = image
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def argv(self, name: str) -> list[str]:
        return [self._here(word) for word in self._services[name]["command"]]

    def health_check(self, name: str) -> list[str]:
        kind, *words = self._services[name]["healthcheck"]["test"]
        argv = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
        return [self._here(word) for word in argv]

    def env(self, name: str) -> dict[str, str]:
        given = {key: self._here(value) for key, value in self._services[name]["environment"].items()}
        return environment_of_the_image() | {"HOSTNAME": os.uname().nodename} | given

    def run(self, name: str, argv: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, cwd=self._image, env=self.env(name), capture_output=True, text=True, check=False, timeout=120
        )

    def is_healthy(self, name: str) -> bool:
        return self.run(name, self.health_check(name)).returncode == 0

    @contextmanager
    def started(self, name: str, log: Path) -> Iterator[None]:
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.argv(name), cwd=self._image, env=self.env(name), stdout=output, stderr=subprocess.STDOUT
            )
        self.processes[name] = process
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def _here(self, text: str) -> str:
        for there, here in self._addresses.items():
            text = text.replace(there, here)
        return text


def wait_until(condition: Callable[[], bool], *, timeout: float = START_TIMEOUT) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def web_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def platform(
    env_file: Path, image: Path, servers: dict[str, str], airflow_server: AirflowServer, web_port: int
) -> Platform:
    variables = compose.read_env(env_file.read_text()) | servers
    variables["AIRFLOW_PASSWORD"] = airflow_server.password
    addresses = {
        "http://airflow-api:8080": airflow_server.url,
        "@redis:6379": f"@{servers['redis']}",
        "http://web:8000": f"http://127.0.0.1:{web_port}",
        "http://127.0.0.1:8000": f"http://127.0.0.1:{web_port}",
        "--host=0.0.0.0": "--host=127.0.0.1",
        "--port=8000": f"--port={web_port}",
    }
    services = compose.services(variables)
    for name in ("migrate", "examples", *STAYING):
        assert services[name]["environment"]["POSTGRES_SERVER"] == "postgres"
        services[name]["environment"]["POSTGRES_SERVER"] = servers["postgres"]
    return Platform(services, addresses, image)


@pytest.fixture(scope="module")
def migrated(platform: Platform) -> subprocess.CompletedProcess[str]:
    return platform.run("migrate", platform.argv("migrate"))


@pytest.fixture(scope="module")
def running(
    platform: Platform, migrated: subprocess.CompletedProcess[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    logs = tmp_path_factory.mktemp("logs")
    with ExitStack() as stack:
        for name in STAYING:
            stack.enter_context(platform.started(name, logs / f"{name}.log"))
        yield platform


def get(port: int, path: str, **headers: str) -> requests.Response | None:
    try:
        return requests.get(f"http://127.0.0.1:{port}{path}", headers=headers, timeout=20)
    except requests.ConnectionError:
        return None


def test_migrate_prepares_the_database_and_makes_the_administrator(
    migrated: subprocess.CompletedProcess[str],
) -> None:
    assert migrated.returncode == 0, migrated.stderr
    assert migrated.stdout.splitlines()[-1] == "Created the administrator admin."


def test_a_second_migrate_changes_nothing(platform: Platform, migrated: subprocess.CompletedProcess[str]) -> None:
    again = platform.run("migrate", platform.argv("migrate"))

    assert again.returncode == 0
    assert "No migrations to apply." in again.stdout
    assert again.stdout.splitlines()[-1] == "There is an administrator already; nothing was changed."


def test_web_answers_and_its_health_check_says_so(running: Platform, web_port: int) -> None:
    wait_until(lambda: get(web_port, "/healthz") is not None)

    assert requests.get(f"http://127.0.0.1:{web_port}/healthz", timeout=5).json() == {"status": "ok"}
    assert running.is_healthy("web")


def test_worker_processes_what_beat_sends_and_all_is_ready(running: Platform, web_port: int) -> None:
    def ready() -> bool:
        answer = get(web_port, "/readyz")
        return answer is not None and answer.status_code == 200

    wait_until(ready)

    inspected = running.run("worker", ["celery", "-A", "svops", "inspect", "stats", "--json", "--timeout", "5"])
    (stats,) = json.loads(inspected.stdout).values()
    assert sum(stats["total"].values()) > 0
    assert stats["pool"]["max-concurrency"] == 8
    assert running.is_healthy("worker")
    assert running.is_healthy("beat")


def test_the_administrator_of_the_env_file_signs_in(running: Platform, env_file: Path, web_port: int) -> None:
    wait_until(lambda: get(web_port, "/healthz") is not None)
    variables = compose.read_env(env_file.read_text())
    credentials = {
        "username": variables["SVOPS_ADMIN_USERNAME"],
        "password": variables["SVOPS_ADMIN_PASSWORD"],
    }

    answer = requests.post(f"http://127.0.0.1:{web_port}/api/v1/auth/login", json=credentials, timeout=10)

    assert answer.status_code == 200
    assert answer.json()["user"]["role"] == "admin"


def test_examples_loads_the_example_workflows_once(
    platform: Platform, migrated: subprocess.CompletedProcess[str]
) -> None:
    loaded, again = (platform.run("examples", platform.argv("examples")) for _ in range(2))

    assert loaded.returncode == 0, loaded.stderr
    assert {line.partition(": ")[2] for line in loaded.stdout.splitlines()} == {
        "Simple workflow.",
        "Data processing.",
        "ML training.",
    }
    assert (again.returncode, again.stdout) == (0, "")


def test_an_unknown_host_is_refused(running: Platform, web_port: int) -> None:
    wait_until(lambda: get(web_port, "/healthz") is not None)

    answer = get(web_port, "/docs", Host="evil.example.com")

    assert answer is not None
    assert answer.status_code == 400


def test_each_process_ends_cleanly_when_it_is_asked_to(running: Platform, web_port: int, image: Path) -> None:
    before = {path for path in image.rglob("*") if path.is_file()}
    wait_until(lambda: running.is_healthy("worker") and running.is_healthy("web"))
    for process in running.processes.values():
        process.send_signal(signal.SIGTERM)

    codes = {name: process.wait(STOP_TIMEOUT) for name, process in running.processes.items()}

    # uvicorn closes its connections, then lets the signal end the process.
    assert codes == {"web": -signal.SIGTERM, "worker": 0, "beat": 0}
    assert before == {path for path in image.rglob("*") if path.is_file()}
