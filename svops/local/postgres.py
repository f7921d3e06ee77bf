"""A private PostgreSQL for tests, from the binaries that the system has."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from pathlib import Path

import psycopg

from svops.local.errors import StartError, with_tail
from svops.local.home import Home, write_private
from svops.local.once import run_once
from svops.local.part import Command, Part
from svops.local.ports import free_port

NOBODY = 65534
# What is in it is thrown away with it: it need not survive a crash of the machine.
OPTIONS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}


class Postgres:
    """A cluster of its own, on a loopback port, behind a password."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._uid = _uid()
        self._port = free_port()
        self._password = home.secret("postgres_password")
        # Not below the home: the user that PostgreSQL runs as could not enter it when we are root.
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
        argv = [_binary("initdb"), "-D", str(self._data), "-U", "svops", "-A", "scram-sha-256"]
        argv += ["--pwfile", str(password_file), "-E", "UTF8", "--locale", "C", "--no-sync"]
        if run_once(argv, env=os.environ, log=log, uid=self._uid, cwd=self._directory):
            raise StartError(with_tail("The private PostgreSQL could not be created.", log))

    def part(self) -> Part:
        argv = [_binary("postgres"), "-D", str(self._data), "-p", str(self._port), "-k", str(self._directory)]
        argv += [word for name, value in OPTIONS.items() for word in ("-c", f"{name}={value}")]
        return Part(
            name="postgres",
            commands=[Command(name="postgres", argv=argv, env=dict(os.environ), uid=self._uid)],
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
    """Why the PostgreSQL at `url` can not be used; "" when it can."""
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.Error as exc:
        return f"it does not accept a connection ({str(exc).strip()})"
    return ""


def _binary(name: str) -> str:
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: path.parts[4])
    found = shutil.which(name) or (str(versions[-1]) if versions else "")
    if not found:
        raise StartError(f"PostgreSQL's {name} is not on this machine: install postgresql, or set DATABASE_URL.")
    return found


def _uid() -> int | None:
    """PostgreSQL refuses to run as root; then it runs as its own user, or as nobody."""
    if os.getuid():
        return None
    try:
        return pwd.getpwnam("postgres").pw_uid
    except KeyError:
        return NOBODY
