"""A PostgreSQL for the benchmarks. Unlike the one of the tests it writes to the disk, and its data can be kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import psycopg

from runner.errors import StartError
from runner.ports import free_port
from runner.postgres import server_program, server_user

# What a small server would have. Benchmarks compare within one run, so the sizes matter less than that they are fixed.
OPTIONS = {
    "shared_buffers": "512MB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "max_connections": "200",
    "jit": "off",
    # Plans and counts must not depend on the moment.
    "autovacuum": "off",
    "max_parallel_workers_per_gather": "0",
    "random_page_cost": "1.1",
}
# For counts alone: nothing waits for the disk.
CARELESS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Cluster:
    """Runs from `__enter__` to `__exit__`. With a `directory` the data stay there, otherwise they are removed."""

    def __init__(self, directory: Path | None = None, options: Mapping[str, str] | None = None) -> None:
        self._is_kept = directory is not None
        self._directory = directory or Path(tempfile.mkdtemp(prefix="svops-bench-postgres-"))
        self._options = OPTIONS | dict(options or {})
        self._uid = server_user()
        self._port = free_port()

    def url(self, database: str) -> str:
        return f"postgresql://svops@127.0.0.1:{self._port}/{database}"

    def run(self, statement: str) -> None:
        """Run a statement outside of any transaction, such as CREATE DATABASE."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def databases(self) -> set[str]:
        with psycopg.connect(self.url("postgres")) as connection:
            return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        if self._uid is not None:
            os.chown(self._directory, self._uid, self._uid)
        if not self._data.exists():
            # Only this machine reaches it, and it holds invented rows.
            self._do(
                "initdb", "-D", self._data, "-U", "svops", "-A", "trust", "-E", "UTF8", "--locale", "C", "--no-sync"
            )
        words = " ".join(f"-c {name}={value}" for name, value in self._options.items())
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -k {self._directory} {words}"
        self._do("pg_ctl", "-D", self._data, "-l", self._directory / "log", "-o", options, "-w", "-t", "120", "start")
        return self

    def __exit__(self, *_: object) -> None:
        self._do("pg_ctl", "-D", self._data, "-m", "fast", "-w", "-t", "120", "stop")
        if not self._is_kept:
            shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def _do(self, program: str, *words: object) -> None:
        with tempfile.TemporaryFile("w+") as said:
            argv = [server_program(program), *map(str, words)]
            user = {} if self._uid is None else {"user": self._uid, "group": self._uid, "extra_groups": []}
            code = subprocess.run(argv, stdout=said, stderr=said, cwd="/", check=False, **user).returncode  # type: ignore[call-overload]
            if code:
                said.seek(0)
                raise StartError(f"{program} failed: {said.read().strip()[-500:]}")
