"""A private PostgreSQL for tests, from the binaries of the system."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import psycopg

from runner import environment
from runner.errors import StartError, with_tail
from runner.home import Home, write_private
from runner.once import run_once
from runner.part import Command, Part
from runner.ports import free_port

NOBODY = 65534
# Its data is temporary and need not survive a crash of the machine.
OPTIONS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "500"}
# With these, what was committed survives kill -9: the write-ahead log is written at each commit.
SURVIVES_KILL = {**OPTIONS, "synchronous_commit": "on"}


class Postgres:
    """A separate cluster on a loopback port, with a password."""

    def __init__(self, home: Home, *, name: str = "postgres", options: Mapping[str, str] = OPTIONS) -> None:
        self._home = home
        self._name = name
        self._options = options
        self._uid = server_user()
        self._port = free_port()
        self._password = home.secret("postgres_password")
        # Not in the home: if we are root, PostgreSQL runs as another user, who cannot enter it.
        self._directory = Path(tempfile.mkdtemp(prefix="svops-postgres-"))
        self.url = f"postgresql://svops:{self._password}@127.0.0.1:{self._port}/postgres"

    def prepare(self) -> None:
        """Create the cluster."""
        password_file = self._directory / "password"
        write_private(password_file, self._password)
        for path in (self._directory, password_file):
            if self._uid is not None:
                os.chown(path, self._uid, self._uid)
        log = self._home.logs / "postgres-initdb.log"
        argv = [server_program("initdb"), "-D", str(self._data), "-U", "svops", "-A", "scram-sha-256"]
        argv += ["--pwfile", str(password_file), "-E", "UTF8", "--locale", "C", "--no-sync"]
        if run_once(argv, env=environment.base(), log=log, uid=self._uid, cwd=self._directory):
            raise StartError(with_tail("The private PostgreSQL could not be created.", log))

    def part(self) -> Part:
        argv = [server_program("postgres"), "-D", str(self._data), "-p", str(self._port), "-k", str(self._directory)]
        argv += [word for name, value in self._options.items() for word in ("-c", f"{name}={value}")]
        return Part(
            name=self._name,
            commands=[Command(name=self._name, argv=argv, env=environment.base(), uid=self._uid)],
            waiting_for=lambda: unreachable(self.url),
            timeout=30,
            exports={"DATABASE_URL": self.url},
        )

    def remove(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self._directory / "data"


def unreachable(url: str) -> str:
    """Return why the PostgreSQL at `url` cannot be used; "" if it can."""
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.Error as exc:
        return f"it does not accept a connection ({str(exc).strip()})"
    return ""


def server_program(name: str) -> str:
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: path.parts[4])
    found = shutil.which(name) or (str(versions[-1]) if versions else "")
    if not found:
        raise StartError(f"PostgreSQL's {name} is not on this machine: install postgresql, or set DATABASE_URL.")
    return found


def server_user() -> int | None:
    """Return the user for PostgreSQL, which refuses to run as root: then its own user, or nobody."""
    if os.getuid():
        return None
    try:
        return pwd.getpwnam("postgres").pw_uid
    except KeyError:
        return NOBODY
