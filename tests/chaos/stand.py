"""The whole platform on two PostgreSQLs. Each of its processes can be killed, frozen and started again."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import requests

from runner.airflow import Airflow
from runner.application import Application
from runner.home import Home
from runner.part import Command, Part
from runner.ports import free_port
from runner.postgres import OPTIONS, Postgres
from runner.redis import redis_part
from tests.chaos.process import Process, until
from tests.chaos.wire import Wire

PASSWORD = "chaos, and long enough"
DAGS = Path(__file__).parent / "dags"
DAG_IDS = tuple(
    dag_id for path in sorted(DAGS.glob("*.py")) for dag_id in re.findall(r'with DAG\("(\w+)"', path.read_text())
)
SWEEP = 15.0  # seconds between sweeps
# Nothing is heard of a task whose supervisor was killed, so its stop is complete only after this (default 600 s).
# Longer than the longest freeze.
STOP_SILENCE = 30.0

# What was committed has to survive kill -9, so the write-ahead log is written at each commit.
DATABASE = {**OPTIONS, "synchronous_commit": "on"}

# Airflow finds out within a minute that a scheduler or a task was killed, not within five.
QUICK = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "45",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "90",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "20",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "20",
}
# No file changes, and each task imports the whole file of its DAG.
CALM = {
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "600",
}
LISTENS = "SVOPS_INGEST_URL"


class ChaosAirflow(Airflow):
    """The embedded Airflow on PostgreSQL, where a killed process holds no lock of the whole database."""

    def _make_database(self) -> None:
        self._run("db", "migrate")


class Stand:
    """The platform below `folder`. `processes` are its parts by name, `wires` are the connections between them."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        self.processes: dict[str, Process] = {}
        self.witnesses = self.home.directory("witnesses")
        web, airflow = free_port(), free_port()
        self.wires = {
            "to airflow": Wire(free_port(), airflow),
            "to the web": Wire(free_port(), web),
            "from the listener": Wire(free_port(), web),
        }
        self.url = f"http://127.0.0.1:{self.wires['to the web'].port}"
        self._secret = secrets.token_urlsafe(32)
        self._token = ""
        self._databases = [
            Postgres(self.home, options=DATABASE),
            Postgres(self.home, name="airflow-postgres", options=DATABASE),
        ]
        self.airflow = self._airflow(folder, airflow)
        redis = redis_part(self.home)
        self.env = {**self._settings(folder), **redis.exports}
        # Application reads the settings of SVOps, and so does this process later.
        os.environ.update(self.env)
        self._application = Application(self.home, host="127.0.0.1", port=web, env=self.env, database=None)
        self._before = [*(database.part() for database in self._databases), redis]

    def _settings(self, folder: Path) -> dict[str, str]:
        return {
            "SVOPS_HOME": str(folder),
            "DATABASE_URL": self._databases[0].url,
            "AIRFLOW_URL": f"http://127.0.0.1:{self.wires['to airflow'].port}",
            "AIRFLOW_USERNAME": self.airflow.username,
            "AIRFLOW_PASSWORD": self.airflow.password,
            "SVOPS_INGEST_SECRET": self._secret,
            "SVOPS_ADMIN_USERNAME": "root",
            "SVOPS_ADMIN_PASSWORD": PASSWORD,
            "SECRET_KEY": secrets.token_urlsafe(50),
            "ALLOWED_HOSTS": "127.0.0.1",
            "REGISTRATION": "closed",
            "NOTIFICATION_ALLOWED_NETWORKS": "127.0.0.0/8",
            "LOGIN_ATTEMPTS": "0",
            "ACCESS_TOKEN_SECONDS": "86400",
            "STREAM_HEARTBEAT": "5",
            "SWEEP_INTERVAL": f"{SWEEP:g}",
            "STOP_DEADLINE": "20",
            "STOP_SILENCE": f"{STOP_SILENCE:g}",
            **{f"RATE_LIMIT_{kind}": "off" for kind in ("API", "AUTH", "INGEST", "STREAM")},
        }

    def _airflow(self, folder: Path, port: int) -> Airflow:
        dags = folder / "dags"
        shutil.copytree(DAGS, dags, ignore=shutil.ignore_patterns("__pycache__"))
        config = self.home.directory("airflow") / "config"  # Airflow imports from there
        config.mkdir(exist_ok=True)
        (config / "chaos_settings.py").write_text("CONNECT_ARGS = {}\n")
        env = {
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self._databases[1].url.replace("postgresql", "postgresql+psycopg2"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS": "chaos_settings.CONNECT_ARGS",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS_ASYNC": "chaos_settings.CONNECT_ARGS",
            **QUICK,
            **CALM,
            LISTENS: f"http://127.0.0.1:{self.wires['from the listener'].port}/api/v1/ingest",
            "SVOPS_INGEST_SECRET": self._secret,
            "CHAOS_WITNESSES": str(self.witnesses),
        }
        return ChaosAirflow(self.home, port=port, env=env)

    def start(self, say: Callable[[str], None]) -> None:
        """Prepare and start everything. At the return Airflow has read the DAGs of the chaos."""
        begun = time.monotonic()
        for wire in self.wires.values():
            wire.start()
        for database in self._databases:
            database.prepare()
        for part in self._before:
            self._start(part)
        self._wait()
        with ThreadPoolExecutor() as pool:
            for prepared in [pool.submit(self.airflow.prepare), pool.submit(self._application.prepare)]:
                prepared.result()
        say(f"databases are ready after {time.monotonic() - begun:.0f} s")
        for part in [self.airflow.part(), *self._application.parts()]:
            self._start(part)
        self._wait()
        until(self._has_dags, within=240, what="Airflow has read the DAGs of the chaos")
        say(f"everything is ready after {time.monotonic() - begun:.0f} s")

    def _start(self, part: Part) -> None:
        for command in part.commands:
            log = self.home.logs / f"{command.name}.log"
            process = Process(command, log, self._readiness(part, command))
            self.processes[command.name] = process
            process.start()

    def _wait(self) -> None:
        for process in self.processes.values():
            process.wait_until_ready()

    def _readiness(self, part: Part, command: Command) -> Callable[[], bool]:
        if command.name == "airflow-api":
            return lambda: _answers(f"{self.airflow.url}/api/v2/version")
        if part.name == "airflow" or command.name in {"worker", "beat"}:
            return lambda: self.processes[command.name].is_alive
        return lambda: not part.waiting_for()

    def _has_dags(self) -> bool:
        try:
            return {dag["dag_id"] for dag in self.ask_airflow("GET", "/dags?limit=100")["dags"]} >= set(DAG_IDS)
        except requests.RequestException:
            return False

    def use_listener(self, is_on: bool) -> None:
        """Start Airflow's scheduler and API again with or without the listener."""
        env = {} if is_on else {LISTENS: ""}
        parts = [process for name, process in self.processes.items() if name in {"airflow-scheduler", "airflow-api"}]
        for process in parts:
            if process.env != env:
                process.kill()
                process.env = env
                process.start()
                process.wait_until_ready()

    def ask_airflow(self, method: str, path: str, body: object = None, *, timeout: float = 60) -> dict[str, Any]:
        """Ask Airflow itself, past every wire; raises `requests.RequestException`."""
        answer = requests.request(
            method, f"{self.airflow.url}/api/v2{path}", json=body, headers=self._airflow_headers(), timeout=timeout
        )
        answer.raise_for_status()
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

    def _airflow_headers(self) -> dict[str, str]:
        if not self._token:
            body = {"username": self.airflow.username, "password": self.airflow.password}
            answer = requests.post(f"{self.airflow.url}/auth/token", json=body, timeout=60)
            answer.raise_for_status()
            self._token = answer.json()["access_token"]
        return {"Authorization": f"Bearer {self._token}"}

    def tasks_at_work(self, *, within: float) -> list[int]:
        """Return the processes of tasks that have left a trace in the last seconds."""
        found: list[int] = []
        for path in sorted(self.witnesses.iterdir()):
            if time.time() - path.stat().st_mtime <= within:
                traces = [line.split() for line in path.read_text().splitlines()]
                found += {int(trace[-1]) for trace in traces if time.time() - float(trace[0]) <= within}
        return [pid for pid in found if is_task_process(pid)]

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
        for database in self._databases:
            database.remove()


def is_task_process(pid: int) -> bool:
    try:
        return "airflow" in " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return False


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=10).ok
    except requests.RequestException:
        return False
