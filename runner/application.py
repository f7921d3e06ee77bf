"""SVOps' own processes: web, worker and beat, and the commands before and after their start."""

from __future__ import annotations

import hashlib
import re
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import requests

from runner import environment
from runner.databases import is_prepared
from runner.errors import StartError, with_tail
from runner.health import Health
from runner.home import REPOSITORY, Home, write_private
from runner.once import run_once
from runner.part import Check, Command, Part

# The files that each preparation depends on. If none of them has changed, it is not repeated.
SOURCES = {
    "migrated": ("*/migrations/*.py", "requirements.txt", "svops/settings.py"),
    "examples": ("dags/*.py",),
}
# Celery's own command, but it may be held until Airflow is ready.
HELD_CELERY = "runner.held_celery"
# Seconds of failed checks after which a process hangs. A busy machine may be slow for some of them.
DEADLINE = 60.0


class Application:
    """SVOps on `host` and `port`; `env` gives its processes the addresses of everything else."""

    def __init__(self, home: Home, *, host: str, port: int, env: Mapping[str, str], database: Path | None) -> None:
        self.url = f"http://{reachable(host)}:{port}"
        self._home = home
        self._host = host
        self._port = port
        self._admin_env = environment.of_svops() | dict(env)
        self._env = environment.without_admin(self._admin_env)
        self._database = database
        self._beat_file = home.directory("run") / "beat"
        self._worker_name = f"port-{port}@{socket.gethostname()}"
        self._health = Health(self.url, redis_url=self._env.get("REDIS_URL", ""))
        self._new_password = ""
        self._password_file = home.secret_file("admin_password")
        # Who was created at the first start. A later SVOPS_ADMIN_USERNAME changes nothing.
        self._first_admin = home.directory("run") / "first_admin"

    def prepare(self) -> None:
        """Migrate the database, create the first administrator, load further Airflows."""
        if not self._is_done("migrated"):
            self._manage("migrate", "--no-input", failure="The database could not be migrated.")
            self._ensure_admin()
            self._mark_done("migrated")
        if further := environment.of_airflows_file():
            failure = "The further Airflows could not be loaded."
            self._manage("load_airflows", failure=failure, env={**self._env, **further})

    @property
    def credentials(self) -> str:
        """Return how to sign in, as text. It contains the password only if that was generated just now."""
        username = self._first_admin.read_text() if self._first_admin.is_file() else ""
        if not username:
            return "an administrator of this database; .venv/bin/python manage.py createsuperuser creates another"
        if self._new_password:
            return f"{username} / {self._new_password}"
        if self._password_file.is_file():
            return f"{username}, with the password in {self._password_file}"
        return f"{username}, with the password that was given to it"

    def load_examples(self) -> None:
        """Mirror Airflow's DAGs and create workflows for the examples. Needs a running Airflow."""
        if self._is_done("examples"):
            return
        self._manage("sync_dags", failure="Airflow's DAGs could not be read.")
        self._manage("load_examples", failure="The example workflows could not be loaded.")
        self._mark_done("examples")

    def doctor(self) -> str:
        """Return what the doctor says, in one line. What it finds stops nothing: SVOps has started."""
        log = self._home.logs / "doctor.log"
        argv = [sys.executable, str(REPOSITORY / "manage.py"), "doctor", "--short"]
        run_once(argv, env=self._env, log=log, cwd=REPOSITORY)
        lines = [line for line in log.read_text().splitlines() if line.startswith("Doctor:")]
        return lines[-1] if lines else f"Doctor: it did not come to an end, see {log}"

    def parts(self, *, after: Callable[[], str] | None = None) -> list[Part]:
        """Return web, and worker and beat; these two begin once `after` returns ""."""
        return [
            Part(
                name="web",
                commands=[self._command("web", self._web)],
                waiting_for=self._not_alive,
                uses_others=True,
            ),
            Part(
                name="worker and beat",
                commands=[
                    self._command("worker", self._worker, after=after),
                    self._command("beat", self._beat, after=after),
                ],
                # The platform is ready only if a worker runs the tasks that beat sends.
                waiting_for=self._not_ready,
                uses_others=True,
                # It includes the wait for `after`.
                timeout=360,
                # Each check asks Airflow too, which is busy while it starts.
                poll=0.7,
            ),
        ]

    # --- commands -----------------------------------------------------------------------------------------

    @property
    def _web(self) -> list[str]:
        return ["svops.server", "--host", self._host, "--port", str(self._port)]

    @property
    def _worker(self) -> list[str]:
        # No greetings between workers: a single worker would wait a second for them.
        return [
            *(HELD_CELERY, "-A", "svops", "worker", "--loglevel", "INFO", "--pool", "threads", "--concurrency", "8"),
            *("--without-gossip", "--without-mingle", "--hostname", self._worker_name),
        ]

    @property
    def _beat(self) -> list[str]:
        return [HELD_CELERY, "-A", "svops", "beat", "--loglevel", "INFO", "--pidfile="]

    def _command(self, name: str, words: Sequence[str], *, after: Callable[[], str] | None = None) -> Command:
        argv = [sys.executable, "-m", *words]
        wrong = {
            "web": self._health.of_web,
            "worker": lambda: self._health.of_worker(self._worker_name),
            "beat": lambda: self._health.of_beat(self._beat_file),
        }[name]
        return Command(
            name=name,
            argv=argv,
            env={**self._env, "BEAT_FILE": str(self._beat_file)},
            cwd=REPOSITORY,
            after=after,
            holds_itself=HELD_CELERY in words,
            check=Check(wrong=wrong, deadline=DEADLINE),
        )

    # --- readiness ----------------------------------------------------------------------------------------

    def _not_alive(self) -> str:
        return self._health.of_web(timeout=5)

    def _not_ready(self) -> str:
        try:
            headers = {"Authorization": f"Bearer {self._env.get('READY_TOKEN', '')}"}
            answer = requests.get(f"{self.url}/readyz", headers=headers, timeout=10)
            checks = answer.json()["checks"]
        except (requests.RequestException, KeyError) as exc:
            return f"/readyz does not answer ({type(exc).__name__})"
        if answer.ok:
            return ""
        failing = [f"{name} ({check.get('reason', '')})" for name, check in checks.items() if check["status"] != "ok"]
        return f"/readyz names {', '.join(failing)}"

    # --- the commands before and after --------------------------------------------------------------------

    def _ensure_admin(self) -> None:
        failure = "The first administrator could not be created."
        output = self._manage("ensure_admin", failure=failure, env=self._admin_env)
        if created := re.search(r"Created the administrator (\S+?)(?:\.$| with the password )", output, re.MULTILINE):
            write_private(self._first_admin, created[1])
        # The command prints a generated password, only this once.
        if made_up := re.search(r"with the password (\S+)", output):
            self._new_password = made_up[1]
            write_private(self._password_file, made_up[1])
            (self._home.logs / "ensure_admin.log").unlink()

    def _manage(self, *arguments: str, failure: str, env: Mapping[str, str] | None = None) -> str:
        log = self._home.logs / f"{arguments[0]}.log"
        argv = [sys.executable, str(REPOSITORY / "manage.py"), *arguments]
        if run_once(argv, env=env or self._env, log=log, cwd=REPOSITORY):
            raise StartError(with_tail(failure, log))
        return log.read_text()

    def _is_done(self, what: str) -> bool:
        stamp = self._stamp(what)
        # Others may have changed a database that is elsewhere; the stamp is reliable only for our own.
        known = self._database is not None and is_prepared(self._database, table="django_migrations")
        return known and stamp.is_file() and stamp.read_text() == _checksum(what)

    def _mark_done(self, what: str) -> None:
        write_private(self._stamp(what), _checksum(what))

    def _stamp(self, what: str) -> Path:
        return self._home.directory("run") / f"{what}.stamp"


def _checksum(what: str) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for pattern in SOURCES[what] for path in REPOSITORY.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def reachable(host: str) -> str:
    """Return the local address of a server that listens on `host`."""
    if host in {"0.0.0.0", "::", ""}:  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
