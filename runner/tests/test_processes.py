"""Which tests one process runs one after the other, and which tests `make check` leaves out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from runner.home import REPOSITORY

CONFTEST = """
import pytest
from runner.testing import group_of, needs_servers

@pytest.fixture(scope="session")
def airflow_server(): ...

def pytest_configure(config):
    for name in ("airflow", "servers", "django_db"):
        config.addinivalue_line("markers", name)

def pytest_collection_modifyitems(items):
    for item in items:
        print(item.name, "|", group_of(item), "|", needs_servers(item))
"""
SHARED = """
import pytest

@pytest.fixture(scope="package")
def site(): ...
"""
TESTS = """
import pytest

@pytest.fixture(scope="module")
def provider(): ...

@pytest.fixture
def user(): ...

def test_alone(user, tmp_path_factory): ...
def test_of_module(provider): ...
def test_of_package(site, provider): ...
def test_of_airflow(airflow_server, site): ...

@pytest.mark.airflow
def test_with_an_airflow(user): ...

@pytest.mark.django_db
def test_of_a_transaction(): ...

@pytest.mark.django_db(transaction=True)
def test_that_commits(): ...

@pytest.mark.servers
def test_that_says_so(): ...
"""


def test_tests_that_share_something_expensive_are_a_group(tmp_path: Path) -> None:
    package = tmp_path / "app"
    package.mkdir()
    for path, text in (
        (tmp_path / "conftest.py", CONFTEST),
        (package / "__init__.py", ""),
        (package / "conftest.py", SHARED),
        (package / "test_them.py", TESTS),
    ):
        path.write_text(text)

    collected = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-s", "-q", "-p", "no:django", "-c", os.devnull, tmp_path],
        cwd=tmp_path,
        env=dict(os.environ) | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert [line for line in collected.stdout.splitlines() if "|" in line] == [
        "test_alone |  | False",
        "test_of_module | app/test_them.py | False",
        "test_of_package | app | False",
        "test_of_airflow | airflow | False",
        "test_with_an_airflow | airflows of their own | True",
        "test_of_a_transaction |  | False",
        "test_that_commits |  | True",
        "test_that_says_so |  | True",
    ]
