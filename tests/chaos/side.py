"""One Airflow of the chaos with all that is its own: a database, wires, processes, a secret and traces of tasks."""

from __future__ import annotations

import re
import secrets
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import requests

from runner.airflow import Airflow
from runner.home import Home
from runner.part import Command, Part
from runner.ports import free_port
from runner.postgres import SURVIVES_KILL, Postgres
from tests.chaos.wire import Wire

DAGS = Path(__file__).parent / "dags"
DAG_IDS = tuple(
    dag_id for path in sorted(DAGS.glob("*.py")) for dag_id in re.findall(r'with DAG\("(\w+)"', path.read_text())
)

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


@dataclass(frozen=True)
class Names:
    """What an Airflow is called in SVOps and before its processes and wires, and where its listener pushes to."""

    name: str
    prefix: str
    ingest: str


# The first one is that of SVOps' settings. The others are added through the API.
NAMES = (
    Names("default", prefix="airflow", ingest="/api/v1/ingest"),
    Names("north", prefix="north", ingest="/api/v1/ingest/north"),
)


class ChaosAirflow(Airflow):
    """The embedded Airflow on PostgreSQL, where a killed process holds no lock of the whole database."""

    def _make_database(self) -> None:
        self._run("db", "migrate")


class Side:
    """An Airflow below `home`. Its listener pushes to the web process on port `web`. `Stand` starts its parts."""

    def __init__(self, home: Home, names: Names, *, web: int) -> None:
        self.name = names.name
        self.prefix = names.prefix
        self.killed = tuple(self.process(part) for part in ("postgres", "api", "scheduler", "triggerer"))
        self.frozen = (*self.killed, self.process("dags"))
        self.listening = (self.process("api"), self.process("scheduler"))
        port = free_port()
        self.way_in = Wire(free_port(), port)
        self.pushes = Wire(free_port(), web)
        self.witnesses = home.directory("witnesses")
        self.secret = secrets.token_urlsafe(32)
        self.database = Postgres(home, name=self.process("postgres"), options=SURVIVES_KILL)
        self._airflow = self._made(home, port, f"http://127.0.0.1:{self.pushes.port}{names.ingest}")
        self._token = ""

    def _made(self, home: Home, port: int, ingest: str) -> Airflow:
        directory = home.directory("airflow")
        dags = home.path / "dags"
        shutil.copytree(DAGS, dags, ignore=shutil.ignore_patterns("__pycache__"))
        config = directory / "config"  # Airflow imports from there
        config.mkdir(exist_ok=True)
        (config / "chaos_settings.py").write_text("CONNECT_ARGS = {}\n")
        env = {
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.database.url.replace("postgresql", "postgresql+psycopg2"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS": "chaos_settings.CONNECT_ARGS",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS_ASYNC": "chaos_settings.CONNECT_ARGS",
            **QUICK,
            **CALM,
            LISTENS: ingest,
            "SVOPS_INGEST_SECRET": self.secret,
            "CHAOS_WITNESSES": str(self.witnesses),
        }
        return ChaosAirflow(home, port=port, env=env)

    # --- what others know of it -------------------------------------------------------------------------

    def process(self, part: str) -> str:
        """Return the name of one of its processes."""
        return f"{self.prefix}-{part}"

    def settings(self) -> dict[str, str]:
        """Return the settings of an SVOps of which it is the default Airflow."""
        return {
            "AIRFLOW_URL": self._url_for_svops,
            "AIRFLOW_USERNAME": self._airflow.username,
            "AIRFLOW_PASSWORD": self._airflow.password,
            "SVOPS_INGEST_SECRET": self.secret,
        }

    def row(self) -> dict[str, Any]:
        """Return what an admin sends to add it as a further Airflow."""
        options = {
            "username": self._airflow.username,
            "password": self._airflow.password,
            "ingest_secret": self.secret,
        }
        return {"name": self.name, "url": self._url_for_svops, "options": options}

    @property
    def _url_for_svops(self) -> str:
        return f"http://127.0.0.1:{self.way_in.port}"

    # --- its parts --------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Write Airflow's configuration and create its tables. Its PostgreSQL has to run."""
        self._airflow.prepare()

    def parts(self) -> list[Part]:
        """Return each process of Airflow as a part."""
        commands = self._airflow.part().commands
        return [self._part(replace(one, name=self.process(one.name.removeprefix("airflow-")))) for one in commands]

    def _part(self, command: Command) -> Part:
        is_api = command.name == self.process("api")
        return Part(name=command.name, commands=[command], waiting_for=self._waits_for_api if is_api else lambda: "")

    def _waits_for_api(self) -> str:
        try:
            is_ready = requests.get(f"{self._airflow.url}/api/v2/version", timeout=10).ok
        except requests.RequestException:
            is_ready = False
        return "" if is_ready else "its API does not answer"

    def has_dags(self) -> bool:
        try:
            return {dag["dag_id"] for dag in self.ask("GET", "/dags?limit=100")["dags"]} >= set(DAG_IDS)
        except requests.RequestException:
            return False

    # --- Airflow itself ---------------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: object = None, *, timeout: float = 60) -> dict[str, Any]:
        """Ask Airflow itself, past every wire; raises `requests.RequestException`."""
        url = f"{self._airflow.url}/api/v2{path}"
        answer = requests.request(method, url, json=body, headers=self._headers(), timeout=timeout)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

    def _headers(self) -> dict[str, str]:
        if not self._token:
            body = {"username": self._airflow.username, "password": self._airflow.password}
            answer = requests.post(f"{self._airflow.url}/auth/token", json=body, timeout=60)
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


def is_task_process(pid: int) -> bool:
    try:
        return "airflow" in " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return False
