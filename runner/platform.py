"""The whole platform: which parts it starts, in which order it prepares them, and what it prints."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from rich.console import Console

from runner import airflow_health, redis
from runner.airflow import Airflow
from runner.application import Application, reachable
from runner.errors import StartError
from runner.home import Home
from runner.part import Part
from runner.ports import require_free
from runner.redis import redis_part
from runner.sessions import end_leftovers
from runner.supervisor import KILL_WAIT, Supervisor

LEFTOVERS_GRACE = 10


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of a start, from the environment."""

    host: str
    port: int
    airflow_port: int
    airflow_url: str
    # Whether anybody can ask that Airflow for its version, without credentials, certificates and proxies.
    airflow_is_open: bool
    redis_url: str
    # The file of the embedded database; None if DATABASE_URL or POSTGRES_SERVER names another database.
    database: Path | None
    starts_airflow: bool
    starts_redis: bool
    # Empty if the operator gives none.
    ingest_secret: str
    ready_token: str

    @classmethod
    def read(cls) -> Config:
        """Read and check all settings. Raises StartError with the name of a wrong one."""
        try:
            from svops import settings  # here, since reading them is what can fail
        except ImproperlyConfigured as exc:
            raise StartError(str(exc)) from exc
        return cls(
            host=settings.SVOPS_HOST,
            port=settings.SVOPS_PORT,
            airflow_port=settings.AIRFLOW_PORT,
            airflow_url=settings.AIRFLOW_URL,
            airflow_is_open=settings.AIRFLOW_AUTH == "password"
            and not (settings.AIRFLOW_CA_FILE or settings.AIRFLOW_CLIENT_CERT or settings.AIRFLOW_PROXY),
            redis_url=settings.REDIS_URL,
            database=Path(settings.DATABASES["default"]["NAME"]) if settings.EMBEDDED else None,
            starts_airflow=not _given("AIRFLOW_URL"),
            starts_redis=not _given("REDIS_URL", "REDIS_HOST", "REDIS_PORT"),
            ingest_secret=settings.INGEST_SECRET,
            ready_token=settings.READY_TOKEN,
        )


class Platform:
    """All parts of one start, on a home that the caller has locked."""

    def __init__(self, home: Home, *, console: Console, verbose: bool) -> None:
        self._home = home
        self._console = console
        self._verbose = verbose
        self._began = time.monotonic()
        self._pending: list[str] = []
        self._status = console.status("")
        self._printing = threading.Lock()
        # The values that an earlier start stored there would look like settings of the caller.
        home.forget_runtime()
        self._config = Config.read()
        self._end_leftovers()
        self._check()
        # Airflow's listener pushes to the web process; both know the secret.
        secret = {"SVOPS_INGEST_SECRET": self._config.ingest_secret or home.secret("ingest_secret")}
        # The wait for the start names the check that fails.
        ready = {"READY_TOKEN": self._config.ready_token or home.secret("ready_token")}
        self._airflow = self._own_airflow(secret) if self._config.starts_airflow else None
        self._services = self._own_services()
        exports = secret | ready | {name: value for part in self._services for name, value in part.exports.items()}
        home.write_runtime(exports)
        self.application = Application(
            home,
            host=self._config.host,
            port=self._config.port,
            env={"SVOPS_HOME": str(home.path), "REDIS_URL": self._config.redis_url, **exports},
            database=self._config.database,
        )

    def run(self, then: Callable[[threading.Event], int | None]) -> int:
        """Prepare and start everything, call `then` when all is ready, and stop everything at the end."""
        try:
            self._prepare()
            parts = [*self._services, *self.application.parts(after=self._airflow_is_missing)]
            self._pending = [part.name for part in parts]
            supervisor = Supervisor(
                parts,
                logs=self._home.logs,
                remember_in=self._home.sessions,
                verbose=self._verbose,
                say=self._report_death,
                stopping=self._report_stopping,
            )
            return supervisor.run(ready=self._report_ready, then=self._once_ready(then))
        finally:
            self._home.forget_runtime()

    def announce(self) -> None:
        """Print all URLs and how to sign in."""
        url = self.application.url
        self._console.print(f"[bold green]SVOps is ready at {url}[/]", highlight=False)
        rows = {
            "Console": f"{url}/",
            "Admin": f"{url}/admin/",
            "API docs": f"{url}/docs",
            "Airflow": self._config.airflow_url,
            "Sign in": self.application.credentials,
            **({"Airflow sign in": self._airflow.credentials} if self._airflow else {}),
        }
        for name, value in rows.items():
            self._say(f"{name:<16}{value}")

    def examine(self) -> None:
        """Print in one line whether everything that SVOps needs is there."""
        with self._waiting("Checking"):
            said = self.application.doctor()
        self._say(f"{said} More: .venv/bin/python manage.py doctor")

    # ------------------------------------------------------------------------------------------------------

    def _own_airflow(self, secret: dict[str, str]) -> Airflow:
        url = f"http://{reachable(self._config.host)}:{self._config.port}/api/v1/ingest"
        return Airflow(self._home, port=self._config.airflow_port, env={"SVOPS_INGEST_URL": url, **secret})

    def _own_services(self) -> list[Part]:
        services = [redis_part(self._home)] if self._config.starts_redis else []
        return [*services, self._airflow.part()] if self._airflow else services

    def _end_leftovers(self) -> None:
        if names := end_leftovers(self._home.sessions, grace=LEFTOVERS_GRACE):
            self._say(f"Ended processes of an earlier start: {', '.join(names)}")

    def _check(self) -> None:
        config = self._config
        require_free(config.host, config.port, part="SVOps", variable="SVOPS_PORT")
        if config.starts_airflow:
            require_free("127.0.0.1", config.airflow_port, part="Airflow", variable="AIRFLOW_PORT")
        elif config.airflow_is_open and (why := airflow_health.unreachable(config.airflow_url)):
            raise StartError(f"The Airflow of AIRFLOW_URL cannot be used: {why}.")
        if not config.starts_redis and (why := redis.unreachable(config.redis_url)):
            raise StartError(f"The Redis of REDIS_URL or REDIS_HOST cannot be used: {why}.")

    def _prepare(self) -> None:
        if self._airflow:
            with self._waiting("Preparing Airflow's database"):
                self._airflow.prepare()
        with self._waiting("Preparing the database of SVOps"):
            self.application.prepare()

    def _once_ready(self, then: Callable[[threading.Event], int | None]) -> Callable[[threading.Event], int | None]:
        def go_on(stop: threading.Event) -> int | None:
            with self._waiting("Loading the example workflows"):
                self.application.load_examples()
            return then(stop)

        return go_on

    def _report_ready(self, part: Part, _seconds: float) -> None:
        with self._printing:
            self._say(f"{part.name:<16}ready after {time.monotonic() - self._began:.1f} s")
            self._pending.remove(part.name)
            self._show_pending()

    def _show_pending(self) -> None:
        if not self._pending:
            self._status.stop()
        elif self._shows_progress:
            self._status.update(f"Waiting for {', '.join(self._pending)}")
            self._status.start()

    def _airflow_is_missing(self) -> str:
        # SVOps would record an outage of an Airflow that is only starting.
        return "Airflow is not ready" if "airflow" in self._pending else ""

    def _report_death(self, line: str) -> None:
        with self._printing:
            self._say(line)

    def _report_stopping(self) -> None:
        self._status.stop()
        self._say(f"Stopping; a running task has {KILL_WAIT} s to end.")

    def _waiting(self, what: str) -> AbstractContextManager[object]:
        """Show progress, if the terminal can."""
        return self._console.status(what) if self._shows_progress else nullcontext()

    @property
    def _shows_progress(self) -> bool:
        return self._console.is_terminal and not self._verbose

    def _say(self, text: str) -> None:
        self._console.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)


def _given(*names: str) -> bool:
    return any(os.environ.get(f"{name}{suffix}") for name in names for suffix in ("", "_FILE"))
