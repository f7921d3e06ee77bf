"""SVOps' own processes: web, worker and beat, and the commands that come before and after their start."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import requests

from svops.local.errors import StartError, with_tail
from svops.local.home import REPOSITORY, Home, write_private
from svops.local.once import run_once
from svops.local.part import Command, Part

# What each preparation is made from: when none of these files has changed, there is nothing to do again.
SOURCES = {
    "migrated": ("*/migrations/*.py", "requirements.txt", "svops/settings.py"),
    "examples": ("dags/*.py",),
}


class Application:
    """SVOps on `host` and `port`; `env` tells its processes where everything else is."""

    def __init__(self, home: Home, *, host: str, port: int, env: Mapping[str, str], database: Path | None) -> None:
        self.url = f"http://{reachable(host)}:{port}"
        self._home = home
        self._host = host
        self._port = port
        self._env = dict(os.environ) | dict(env)
        self._database = database
        self._new_password = ""
        self._started = time.monotonic()
        self._password_file = home.secret_file("admin_password")

    def prepare(self) -> None:
        """Migrate the database and create the first administrator."""
        if self._is_done("migrated"):
            return
        self._manage("migrate", "--no-input", failure="The database could not be migrated.")
        self._ensure_admin()
        self._mark_done("migrated")

    @property
    def credentials(self) -> str:
        """How to sign in, in words: with the password itself only when it has just been made up."""
        username = os.environ.get("SVOPS_ADMIN_USERNAME") or "admin"
        if self._new_password:
            return f"{username} / {self._new_password}"
        if self._password_file.is_file():
            return f"{username}, with the password in {self._password_file}"
        return f"{username}, with the password that was given to it"

    def load_examples(self) -> None:
        """Mirror Airflow's DAGs and offer the examples among them as workflows; needs a running Airflow."""
        if self._is_done("examples"):
            return
        self._manage("sync_dags", failure="Airflow's DAGs could not be read.")
        self._manage("load_examples", failure="The example workflows could not be loaded.")
        self._mark_done("examples")

    def parts(self) -> list[Part]:
        self._started = time.monotonic()
        return [
            Part(name="web", commands=[self._command("web", self._web)], waiting_for=self._not_alive),
            Part(
                name="worker and beat",
                commands=[self._command("worker", self._worker), self._command("beat", self._beat)],
                # Only a worker that carries out what beat sends makes the platform ready.
                waiting_for=self._not_ready,
                timeout=180,
                # Each look asks Airflow too, which has enough to do while it starts.
                poll=0.7,
            ),
        ]

    # --- commands -----------------------------------------------------------------------------------------

    @property
    def _web(self) -> list[str]:
        # Compression costs far more than it saves: it doubles the work per frame.
        return [
            *("uvicorn", "svops.asgi:application", "--host", self._host, "--port", str(self._port)),
            "--no-proxy-headers",  # whose word counts is for TRUST_PROXY to say
            *("--ws-per-message-deflate", "false", "--no-server-header", "--timeout-graceful-shutdown", "3"),
        ]

    @property
    def _worker(self) -> list[str]:
        # Without the greetings between workers, for which a lone one would wait a second.
        return [
            *("celery", "-A", "svops", "worker", "--loglevel", "INFO", "--pool", "threads", "--concurrency", "8"),
            *("--without-gossip", "--without-mingle"),
        ]

    @property
    def _beat(self) -> list[str]:
        return ["celery", "-A", "svops", "beat", "--loglevel", "INFO", "--pidfile="]

    def _command(self, name: str, words: Sequence[str]) -> Command:
        return Command(name=name, argv=[sys.executable, "-m", *words], env=self._env, cwd=REPOSITORY)

    # --- readiness ----------------------------------------------------------------------------------------

    def _not_alive(self) -> str:
        try:
            answer = requests.get(f"{self.url}/healthz", timeout=5)
        except requests.RequestException as exc:
            return f"it does not answer ({type(exc).__name__})"
        return "" if answer.ok else f"/healthz answers {answer.status_code}"

    def _not_ready(self) -> str:
        try:
            answer = requests.get(f"{self.url}/readyz", timeout=10)
            checks = answer.json()["checks"]
        except (requests.RequestException, KeyError) as exc:
            return f"/readyz does not answer ({type(exc).__name__})"
        if answer.ok:
            return ""
        failing = [f"{name} ({check.get('detail', '')})" for name, check in checks.items() if not check.get("ok")]
        return f"/readyz names {', '.join(failing)}"

    # --- the commands before and after --------------------------------------------------------------------

    def _ensure_admin(self) -> None:
        output = self._manage("ensure_admin", failure="The first administrator could not be created.")
        # The command prints a password that it had to make up, this once.
        if made_up := re.search(r"with the password (\S+)", output):
            self._new_password = made_up[1]
            write_private(self._password_file, made_up[1])
            (self._home.logs / "ensure_admin.log").unlink()

    def _manage(self, *arguments: str, failure: str) -> str:
        log = self._home.logs / f"{arguments[0]}.log"
        argv = [sys.executable, str(REPOSITORY / "manage.py"), *arguments]
        if run_once(argv, env=self._env, log=log, cwd=REPOSITORY):
            raise StartError(with_tail(failure, log))
        return log.read_text()

    def _is_done(self, what: str) -> bool:
        stamp = self._stamp(what)
        # A database elsewhere may have been changed by others: only of our own do we know.
        known = self._database is not None and self._database.is_file()
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
    """The address under which a server that listens on `host` answers here."""
    if host in {"0.0.0.0", "::", ""}:  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
