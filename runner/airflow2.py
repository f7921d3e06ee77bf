"""A real Airflow 2.11, the oldest supported version: for the tests, not part of `make up`."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime

from runner.airflow import Airflow
from runner.home import REPOSITORY

# Why each line differs from Airflow's default, if `airflow.CONFIG` does not say so:
# - schedule_after_task_execution: SQLite has no row locks, so the little scheduler inside each task and the real one
#   would both increase the try number of the next task;
# - killed_task_cleanup_time: a task that ignores signals would have a minute to end;
# - dag_dir_list_interval: Airflow finds a new DAG within seconds, not five minutes.
CONFIG = """\
[core]
dags_folder = {dags}
plugins_folder = {plugins}
executor = LocalExecutor
parallelism = 4
load_examples = False
dags_are_paused_at_creation = False
fernet_key = {fernet_key}
hostname_callable = socket.gethostname
killed_task_cleanup_time = 10

[database]
sql_alchemy_conn = sqlite:///{directory}/airflow.db
sql_alchemy_connect_args = svops_embedded.CONNECT_ARGS

[logging]
base_log_folder = {directory}/logs
dag_processor_manager_log_location = {directory}/logs/dag_processor_manager.log
colored_console_log = False

[api]
auth_backends = airflow.api.auth.backend.basic_auth,airflow.api.auth.backend.session

[webserver]
web_server_host = 127.0.0.1
web_server_port = {port}
base_url = {url}
workers = 1
secret_key = {secret_key}

[scheduler]
child_process_log_directory = {directory}/logs/scheduler
scheduler_idle_sleep_time = 0.25
schedule_after_task_execution = False
dag_dir_list_interval = 10
min_file_process_interval = 10
"""


class Airflow2(Airflow):
    environment = REPOSITORY / ".venv-airflow2"
    lock_file = REPOSITORY / "requirements-airflow2.txt"
    config = CONFIG
    api = "/api/v1"
    processes: Mapping[str, list[str]] = {
        "airflow-web": ["webserver"],
        "airflow-scheduler": ["scheduler", "--skip-serve-logs"],
        "airflow-triggerer": ["triggerer", "--skip-serve-logs"],
    }
    heartbeats: Mapping[str, str] = {"airflow-scheduler": "scheduler", "airflow-triggerer": "triggerer"}
    health = "/api/v1/health"
    # Tasks need no API here.
    held = ()

    def _environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        # The only executor that 2.11 allows on SQLite runs one task at a time.
        skip = {"_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1"}
        return super()._environment(dict(extra) | skip)

    def _make_database(self) -> None:
        super()._make_database()
        # Airflow 3 does this by itself: readers and a writer do not wait for each other.
        with closing(sqlite3.connect(self._directory / "airflow.db")) as database:
            database.execute("PRAGMA journal_mode=WAL")
        self._create_admin()

    def _unhealthy(self) -> str:
        heartbeat = self._get(self.health)["scheduler"].get("latest_scheduler_heartbeat")
        if not heartbeat or datetime.fromisoformat(heartbeat) < self._started:
            return "its scheduler has not reported yet"
        return ""

    def _cold(self) -> str:
        return ""

    def _login(self) -> Mapping[str, str]:
        proof = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return {"Authorization": f"Basic {proof}"}
