"""A real Airflow 3 in its own environment: API server, scheduler and DAG processor, small and quick."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sqlite3
from collections.abc import Collection, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from runner import airflow_health, environment
from runner.databases import is_prepared
from runner.errors import StartError, with_tail
from runner.home import REPOSITORY, Home, write_private
from runner.once import run_once
from runner.part import Check, Command, Part

USERNAME = "admin"

# Why each line differs from Airflow's default:
# - parallelism: 32 would fork 32 worker processes at the start;
# - hostname_callable: the default asks the name server, which can take seconds on a laptop;
# - sql_alchemy_connect_args: SQLite waits 60 s for its lock, not 5. On a busy machine, or while a thousand task
#   instances are cleared, 5 s end the scheduler with "database is locked". (Airflow switches SQLite to WAL by itself.)
# - sql_alchemy_pool_size: with 5 + 10, sixteen requests at once end in HTTP 500 after 30 s;
# - scheduler_idle_sleep_time: halves the time from trigger to task;
# - orphaned_tasks_check_interval: what a killed scheduler had queued or running begins again after a minute, not six;
# - refresh_interval and the next: Airflow finds a new or changed DAG within seconds, not five minutes.
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
execution_api_server_url = {url}/execution/
simple_auth_manager_users = {username}:admin
simple_auth_manager_passwords_file = {passwords}

[database]
sql_alchemy_conn = sqlite:///{directory}/airflow.db
sql_alchemy_connect_args = svops_embedded.CONNECT_ARGS
sql_alchemy_connect_args_async = svops_embedded.CONNECT_ARGS
sql_alchemy_pool_size = 20
sql_alchemy_max_overflow = 20

[logging]
base_log_folder = {directory}/logs
colored_console_log = False

[api]
host = 127.0.0.1
port = {port}
base_url = {url}
workers = 1
secret_key = {secret_key}

[api_auth]
jwt_secret = {jwt_secret}

[scheduler]
scheduler_idle_sleep_time = 0.25
orphaned_tasks_check_interval = 30

[dag_processor]
refresh_interval = 10
min_file_process_interval = 10
bundle_refresh_check_interval = 2
dag_bundle_storage_path = {directory}/bundles
"""

# A module that Airflow imports from the folder `config` of its home.
SQLITE = 'CONNECT_ARGS = {"timeout": 60}\n'


class Airflow:
    """The Airflow in `home`, on `port`. Call `prepare`, then run its `part`."""

    environment = REPOSITORY / ".venv-airflow"
    lock_file = REPOSITORY / "requirements-airflow.txt"
    config = CONFIG
    api = "/api/v2"
    processes: Mapping[str, list[str]] = {
        "airflow-api": ["api-server"],
        # The API server reads the tasks' logs from the same disk.
        "airflow-scheduler": ["scheduler", "--skip-serve-logs"],
        "airflow-dags": ["dag-processor"],
        # Deferred tasks wait there.
        "airflow-triggerer": ["triggerer", "--skip-serve-logs"],
    }
    # It begins once the API server answers: a task that an earlier start left behind runs at once and needs that.
    held: Collection[str] = ("airflow-scheduler",)
    # The processes that report to the database; the API shows when they last did.
    heartbeats: Mapping[str, str] = {
        "airflow-scheduler": "scheduler",
        "airflow-dags": "dag_processor",
        "airflow-triggerer": "triggerer",
    }
    health = "/api/v2/monitor/health"

    def __init__(
        self, home: Home, *, port: int, env: Mapping[str, str] | None = None, version: str | None = None
    ) -> None:
        """`version` names another one than that of the lock file: it has an environment of its own."""
        if version:
            self.environment = REPOSITORY / f".venv-airflow-{version}"
        self._version = version
        self.url = f"http://127.0.0.1:{port}"
        self.username = USERNAME
        self._is_new = not home.secret_file("airflow_password").is_file()
        self.password = home.secret("airflow_password")
        self._home = home
        self._directory = home.directory("airflow")
        self._port = port
        self._env = self._environment(env or {})
        self._started = datetime.now(UTC)
        self._warm = False

    def prepare(self) -> None:
        """Write the configuration, and create or migrate the database if this Airflow has not done so yet."""
        self._write_config()
        stamp = self._directory / "migrated"
        wanted = self._lock()
        if stamp.is_file() and stamp.read_text() == wanted and is_prepared(self._database, table="alembic_version"):
            return
        stamp.unlink(missing_ok=True)
        self._make_database()
        stamp.write_text(wanted)

    @property
    def credentials(self) -> str:
        """Return how to sign in, as text. It contains the password only at the first start."""
        if self._is_new:
            return f"{self.username} / {self.password}"
        return f"{self.username}, with the password in {self._home.secret_file('airflow_password')}"

    def part(self) -> Part:
        self._started = datetime.now(UTC)
        return Part(
            name="airflow",
            commands=[
                Command(
                    name=name,
                    argv=[*self._command, *rest],
                    env=self._env,
                    after=self._silent if name in self.held else None,
                    holds_itself=name in self.held,
                    check=self._check(name),
                )
                for name, rest in self.processes.items()
            ],
            waiting_for=self._waiting_for,
            timeout=180,
            exports={
                "AIRFLOW_URL": self.url,
                "AIRFLOW_USERNAME": self.username,
                "AIRFLOW_PASSWORD": self.password,
            },
        )

    def _check(self, name: str) -> Check:
        component = self.heartbeats.get(name)
        return airflow_health.check(self._get, version=f"{self.api}/version", health=self.health, component=component)

    @property
    def _database(self) -> Path:
        return self._directory / "airflow.db"

    @property
    def _command(self) -> list[str]:
        python = self.environment / "bin" / "python"
        if not python.exists():
            raise StartError(f"{self.environment} is missing: run scripts/setup first, or set AIRFLOW_URL.")
        # -P: modules of ours beside that file have the names of Airflow's.
        return [str(python), "-P", str(Path(__file__).with_name("airflow_command.py"))]

    def _environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        inherited = environment.of_airflow()
        # Airflow itself runs the command `airflow`.
        path = f"{self.environment / 'bin'}{os.pathsep}{inherited.get('PATH', os.defpath)}"
        # By default, files are with the rest of Airflow's state.
        files = {"SVOPS_DATA_DIR": str(self._directory / "data")}
        return files | inherited | dict(extra) | {"PATH": path, "AIRFLOW_HOME": str(self._directory)}

    def _make_database(self) -> None:
        """Migrate the database. A new one is a copy of the first that this environment has made, which saves 10 s."""
        database = self._database
        empty = self.environment / f"empty-{self._lock()[:16]}.db"
        is_new = not is_prepared(database, table="alembic_version")
        if is_new and empty.is_file():
            _copy_database(empty, database)
            return
        self._run("db", "migrate")
        if is_new:
            # An environment that belongs to somebody else stays as it is.
            with suppress(OSError, sqlite3.OperationalError):
                _copy_database(database, empty)

    def _create_admin(self) -> None:
        """Create the user, where FAB has the users."""
        name = ("--firstname", "SVOps", "--lastname", "Admin", "--email", "admin@example.com", "--role", "Admin")
        self._run("users", "create", *name, f"--username={self.username}", f"--password={self.password}")

    def _lock(self) -> str:
        """Return what changes when other packages are installed."""
        packages = self._version.encode() if self._version else self.lock_file.read_bytes()
        return hashlib.sha256(packages).hexdigest()

    def _run(self, *arguments: str) -> None:
        log = self._home.logs / "airflow-prepare.log"
        if run_once([*self._command, *arguments], env=self._env, log=log):
            raise StartError(with_tail(f"Airflow's database in {self._directory} could not be prepared.", log))

    def _write_config(self) -> None:
        passwords = self._directory / "passwords.json"
        write_private(passwords, json.dumps({self.username: self.password}))
        values = {
            "dags": REPOSITORY / "dags",
            "plugins": REPOSITORY / "plugins",
            "directory": self._directory,
            "url": self.url,
            "port": self._port,
            "username": self.username,
            "passwords": passwords,
            "secret_key": self._home.secret("airflow_secret_key"),
            "jwt_secret": self._home.secret("airflow_jwt_secret") * 2,
            "fernet_key": self._fernet_key(),
        }
        write_private(self._directory / "airflow.cfg", self.config.format(**values))
        write_private(self._home.directory("airflow/config") / "svops_embedded.py", SQLITE)

    def _fernet_key(self) -> str:
        digest = hashlib.sha256(self._home.secret("airflow_fernet_seed").encode()).digest()
        return base64.urlsafe_b64encode(digest).decode()

    def _waiting_for(self) -> str:
        try:
            return self._unhealthy() or self._cold() or self._unread_dags()
        except requests.RequestException as exc:
            return f"its API does not answer ({type(exc).__name__})"

    def _silent(self) -> str:
        """Return "" once tasks can report to the API server."""
        try:
            return self._cold()
        except requests.RequestException as exc:
            return f"its API does not answer ({type(exc).__name__})"

    def _unhealthy(self) -> str:
        health = self._get(self.health)
        for component in ("scheduler", "dag_processor", "triggerer"):
            # A heartbeat younger than 30 s may still be that of the process that ran before this start.
            heartbeat = health[component].get(f"latest_{component}_heartbeat")
            if not heartbeat or datetime.fromisoformat(heartbeat) < self._started:
                return f"its {component.replace('_', ' ')} has not reported yet"
        return ""

    def _cold(self) -> str:
        # Airflow builds the API for tasks at its first request.
        if not self._warm:
            self._get("/execution/health", timeout=30)
            self._warm = True
        return ""

    def _unread_dags(self) -> str:
        """Return why not all DAG files are in Airflow's list of DAGs or its list of import errors; "" if they are."""
        login = self._login()
        dags = self._get(f"{self.api}/dags?limit=100", login)["dags"]
        errors = self._get(f"{self.api}/importErrors?limit=100", login)["import_errors"]
        known = {Path(dag["fileloc"]).name for dag in dags} | {Path(error["filename"]).name for error in errors}
        missing = sorted(dag_files(REPOSITORY / "dags") - known)
        return f"it has not read {', '.join(missing)} yet" if missing else ""

    def _login(self) -> Mapping[str, str]:
        """Return headers that authenticate a request as the user."""
        body = {"username": self.username, "password": self.password}
        answer = requests.post(f"{self.url}/auth/token", json=body, timeout=5)
        answer.raise_for_status()
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def _get(self, path: str, headers: Mapping[str, str] | None = None, *, timeout: float = 5) -> Any:
        answer = requests.get(f"{self.url}{path}", headers=headers, timeout=timeout)
        answer.raise_for_status()
        return answer.json()


def _copy_database(source: Path, target: Path) -> None:
    """Copy an SQLite database, so that `target` is there whole or not at all."""
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(draft)) as new:
        old.backup(new)
    draft.replace(target)


def dag_files(folder: Path) -> set[str]:
    """Return the files directly in `folder` that Airflow regards as DAG files."""
    texts = {path.name: path.read_text(errors="replace").lower() for path in folder.glob("*.py")}
    return {name for name, text in texts.items() if "airflow" in text and "dag(" in text}
