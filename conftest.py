"""Real parts for the tests, and which tests share one process.

Each process of the tests (`-n 4` makes four) has a Redis, a database and a home of its own, from the start, and an
Airflow when its first test asks for one. `REDIS_URL`, `AIRFLOW_URL` and `DATABASE_URL` in the environment replace
them, as they do for `make up`.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import django
import pytest

from runner.home import Home
from runner.ports import free_port
from runner.testing import Served, group_of, needs_servers

HOME = Path(tempfile.mkdtemp(prefix="svops-tests-"))
GIVEN = dict(os.environ)


def _describe_the_parts() -> list[Served]:
    """Set where every part is, before Django reads its settings. Return the parts that were started."""
    os.environ["SVOPS_HOME"] = str(HOME)
    # Defaults of the embedded set-up. With a DATABASE_URL they must be set: the same suite runs on both.
    os.environ.setdefault("SECRET_KEY", "only for the tests, and long enough for an HMAC with SHA-256")
    os.environ.setdefault("REGISTRATION", "open")
    os.environ.setdefault("DAG_ACCESS", "open")
    os.environ.setdefault("ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]")
    # All tests come from one address. Tests of the limits set their own.
    for rate in ("API", "AUTH", "INGEST", "STREAM", "TEST", "RECIPIENT"):
        os.environ.setdefault(f"RATE_LIMIT_{rate}", "off")
    os.environ.setdefault("LOGIN_ATTEMPTS", "0")
    # Most tests empty the audit trail. Tests of the kept head name a file of their own.
    os.environ.setdefault("AUDIT_HEAD_FILE", "off")
    # A busy machine may take long for a log, and tests change one right after they have read it.
    os.environ.setdefault("LOG_WAIT", "30")
    os.environ.setdefault("LOG_REFRESH", "0.000001")
    # A test sees what it has just changed.
    os.environ.setdefault("SHARED_ANSWER_SECONDS", "0")
    os.environ.setdefault("READY_TOKEN", "only for the tests")
    if not GIVEN.get("AIRFLOW_URL"):
        os.environ["AIRFLOW_PORT"] = str(free_port())
        os.environ["AIRFLOW_URL"] = f"http://127.0.0.1:{os.environ['AIRFLOW_PORT']}"
        os.environ["AIRFLOW_USERNAME"] = "admin"
        os.environ["AIRFLOW_PASSWORD"] = Home(HOME / "airflow").secret("airflow_password")
    if GIVEN.get("REDIS_URL"):
        return []
    redis = Served("redis", home=HOME / "redis")
    os.environ.update(redis.exports)
    return [redis]


def _clean_up() -> None:
    while PARTS:
        PARTS.pop().stop()
    shutil.rmtree(HOME, ignore_errors=True)


PARTS = _describe_the_parts()
# Set here and not in pyproject.toml: otherwise pytest-django reads the settings before this file runs.
os.environ["DJANGO_SETTINGS_MODULE"] = "svops.settings"
django.setup()
atexit.register(_clean_up)

from django.contrib.contenttypes.models import ContentType  # noqa: E402 - after the set-up
from django.core.management import call_command  # noqa: E402
from django.core.management.color import Style  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.utils import timezone  # noqa: E402
from pytest_django import DjangoDbBlocker  # noqa: E402
from pytest_django.plugin import blocking_manager_key  # noqa: E402

from workflows.eventlog import epochs  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="kill processes at many more steps; takes minutes longer")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("tx", None):
        # This process only distributes the tests. The processes that run them must start with its original environment.
        _clean_up()
        os.environ.clear()
        os.environ.update(GIVEN)


def pytest_unconfigure() -> None:
    # A process of pytest-xdist does not run atexit's functions.
    _clean_up()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs servers, keep in one process what shares them, and begin with what takes longest."""
    groups = {item: group_of(item) for item in items}
    for item, group in groups.items():
        if group:
            item.add_marker(pytest.mark.xdist_group(group))
        if group or needs_servers(item):
            item.add_marker(pytest.mark.servers)
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: (item.get_closest_marker("airflow") is None, not (groups[item] or _is_long(item))))


def _is_long(item: pytest.Item) -> bool:
    """Return whether the test waits for minutes: at the end, all others would wait for it."""
    limit = item.get_closest_marker("timeout")
    return bool(limit and limit.args and limit.args[0] >= 900)


# The rows that the migrations write, once the database is made.
ROWS: list[str] = []


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Keep the rows of the migrations, beside what pytest-django does. At the end, end what is still connected."""
    if connection.vendor == "postgresql":
        connection.ops.sql_flush = _deletes  # type: ignore[assignment, method-assign]
    with django_db_blocker.unblock():
        _let_tests_empty_the_audit_trail()
        ROWS.append(connection.creation.serialize_db_to_string())
        _recognize_the_database()
    yield
    with django_db_blocker.unblock():
        _end_other_sessions()


def _recognize_the_database() -> None:
    """Do what the first publication of each process does, so that it costs no test a query more than the others."""
    with transaction.atomic():
        epochs.notice_once(now=timezone.now())
        transaction.set_rollback(True)


def _let_tests_empty_the_audit_trail() -> None:
    """Drop the triggers that would refuse to empty the database. `tests/attack/test_audit.py` puts them back."""
    with connection.cursor() as cursor:
        for name, table in (("audit_no_delete", "auditentry"), ("audit_head_no_delete", "audithead")):
            on_table = f" ON accounts_{table}" if connection.vendor == "postgresql" else ""
            cursor.execute(f"DROP TRIGGER {name}{on_table}")


def _deletes(_style: Style, tables: Sequence[str], **_options: bool) -> list[str]:
    """Return what empties these tables. TRUNCATE takes fifty times as long: it makes a new file for each index."""
    names = [connection.ops.quote_name(table) for table in tables]
    return [f"LOCK TABLE {', '.join(names)} IN EXCLUSIVE MODE", *(f"DELETE FROM {name}" for name in names)]  # noqa: S608


def _end_other_sessions() -> None:
    """Let the database be dropped. A thread that served a test keeps its connection until Python collects it."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """After tests that empty the database, put the rows of the migrations back, such as the schedules.

    pytest-django runs these tests last. With several processes, others may follow them.
    """
    try:
        return (yield)
    finally:
        if ROWS and _empties_the_database(item) and nextitem is not None and not _empties_the_database(nextitem):
            with item.config.stash[blocking_manager_key].unblock():
                # Sequences go on: the rows that are put back keep their ids.
                call_command("flush", interactive=False, verbosity=0, inhibit_post_migrate=True, reset_sequences=False)
                connection.creation.deserialize_db_from_string(ROWS[0])
            ContentType.objects.clear_cache()


def _empties_the_database(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("django_db")
    names = getattr(item, "fixturenames", ())
    return "transactional_db" in names or bool(marker and marker.kwargs.get("transaction"))


@pytest.fixture
def unused_tcp_port() -> int:
    """A port on which nobody listens. Replaces pytest-asyncio's, which another process may get next."""
    return free_port()


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

    `SVOPS_TEST_AIRFLOW` says which: 3, the default, fab, 2, which is 2.11, or a version such as 3.1.8.
    """
    server = AirflowServer(*(os.environ[f"AIRFLOW_{name}"] for name in ("URL", "USERNAME", "PASSWORD")))
    if GIVEN.get("AIRFLOW_URL"):
        yield server
        return
    served = Served("airflow", home=HOME / "airflow")
    yield server
    served.stop()
