"""`python -m runner` as somebody at a terminal starts it, on a machine where nothing has been set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from runner.home import REPOSITORY

# What conftest.py has set for the tests themselves.
OURS = {"SECRET_KEY", "REGISTRATION", "DAG_ACCESS", "ALLOWED_HOSTS", "DATABASE_URL", "DJANGO_SETTINGS_MODULE"}


def bare_environment(home: Path, **values: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in OURS and not name.startswith(("REDIS_", "AIRFLOW_", "SVOPS_", "POSTGRES_"))
    }
    return kept | {"SVOPS_HOME": str(home)} | values


def start(*arguments: str, home: Path, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
    """Start it in a session of its own, with its output to be read."""
    return subprocess.Popen(
        [sys.executable, "-m", "runner", *arguments],
        cwd=REPOSITORY,
        env=bare_environment(home, **(env or {})),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def run(*arguments: str, home: Path, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run it to its end: its exit code, its output, its complaints."""
    process = start(*arguments, home=home, env=env)
    output, errors = process.communicate(timeout=240)
    return process.returncode, output, errors
