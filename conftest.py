"""Real parts for the tests: a Redis from the start, an Airflow when the first test asks for it.

`REDIS_URL`, `AIRFLOW_URL` and `DATABASE_URL` in the environment replace them, as they do for `make up`.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import django
import pytest

from svops.local.home import Home
from svops.local.ports import free_port
from svops.local.testing import Served

HOME = Path(tempfile.mkdtemp(prefix="svops-tests-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
GIVEN_AIRFLOW = os.environ.get("AIRFLOW_URL", "")


def _describe_the_parts() -> None:
    """Settle where every part is, before Django reads its settings, once for all."""
    os.environ["SVOPS_HOME"] = str(HOME)
    # What is embedded's default and has to be chosen with a DATABASE_URL: the same suite runs on both.
    os.environ.setdefault("SECRET_KEY", "only for the tests, and long enough for an HMAC with SHA-256")
    os.environ.setdefault("REGISTRATION", "open")
    os.environ.setdefault("ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]")
    # Every test comes from one address; those of the limits set their own.
    for rate in ("API", "AUTH", "INGEST", "STREAM"):
        os.environ.setdefault(f"RATE_LIMIT_{rate}", "off")
    os.environ.setdefault("LOGIN_ATTEMPTS", "0")
    if not os.environ.get("REDIS_URL"):
        redis = Served("redis", home=HOME / "redis")
        atexit.register(redis.stop)
        os.environ.update(redis.exports)
    if not GIVEN_AIRFLOW:
        os.environ["AIRFLOW_PORT"] = str(free_port())
        os.environ["AIRFLOW_URL"] = f"http://127.0.0.1:{os.environ['AIRFLOW_PORT']}"
        os.environ["AIRFLOW_USERNAME"] = "admin"
        os.environ["AIRFLOW_PASSWORD"] = Home(HOME / "airflow").secret("airflow_password")


_describe_the_parts()
# Set here and not in pyproject.toml: pytest-django would read the settings before this file.
os.environ["DJANGO_SETTINGS_MODULE"] = "svops.settings"
django.setup()


@pytest.fixture(scope="session")
def redis_server() -> str:
    """The URL of a real Redis, the one that the settings name too."""
    return os.environ["REDIS_URL"]


@dataclass(frozen=True)
class AirflowServer:
    url: str
    username: str
    password: str


@pytest.fixture(scope="session")
def airflow_server() -> Iterator[AirflowServer]:
    """A real Airflow with the example DAGs, the one that the settings name; it takes some 15 s to start.

    `SVOPS_TEST_AIRFLOW` says which: 3, the default, or 2, which is 2.11.
    """
    server = AirflowServer(*(os.environ[f"AIRFLOW_{name}"] for name in ("URL", "USERNAME", "PASSWORD")))
    if GIVEN_AIRFLOW:
        yield server
        return
    served = Served("airflow2" if os.environ.get("SVOPS_TEST_AIRFLOW") == "2" else "airflow", home=HOME / "airflow")
    yield server
    served.stop()
