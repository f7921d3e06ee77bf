"""The machine around SVOps: what its processes see, who can read its files, and with which keys it starts."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from rest import env
from runner.airflow import Airflow
from runner.application import Application
from runner.home import OUR_FILES, REPOSITORY, Home
from runner.part import Command
from runner.ports import free_port
from runner.redis import redis_part
from runner.tests.commands import bare_environment, run

OPERATORS = {
    "SVOPS_ADMIN_PASSWORD": "canary-1",
    "AWS_SECRET_ACCESS_KEY": "canary-2",
    "GITHUB_TOKEN": "canary-3",
    "AIRFLOW__CORE__FERNET_KEY": "canary-4",
}
OF_SVOPS = {"EMAIL_HOST_PASSWORD": "canary-5", "OIDC_CLIENT_SECRET": "canary-6", "METRICS_TOKEN": "canary-7"}
OF_AUTHORS = {
    "AIRFLOW_VAR_BUCKET": "lake",
    "AIRFLOW_CONN_LAKE": "s3://lake",
    "HTTPS_PROXY": "http://proxy:3128",
    "NO_PROXY": "localhost",
    "SSL_CERT_FILE": "/etc/ssl/own.pem",
    "TZ": "Europe/Paris",
}


def commands(home: Home) -> dict[str, Sequence[Command]]:
    application = Application(home, host="127.0.0.1", port=free_port(), env={}, database=None)
    return {
        "airflow": Airflow(home, port=free_port()).part().commands,
        "redis": redis_part(home).commands,
        "svops": [command for part in application.parts() for command in part.commands],
    }


def printed(command: Command) -> dict[str, str]:
    """Return what a task or a request in this process could print: the environment of a real process."""
    output = subprocess.run(["/usr/bin/env", "-0"], env=command.env, capture_output=True, check=True, text=True).stdout
    return dict(line.split("=", 1) for line in output.split("\0") if line)


def test_no_process_sees_what_the_operator_has_in_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: each process had the operator's environment: a task could log SVOPS_ADMIN_PASSWORD. Now: 0 canaries."""
    for name, value in (OPERATORS | OF_SVOPS | OF_AUTHORS).items():
        monkeypatch.setenv(name, value)

    seen = {kind: [printed(command) for command in group] for kind, group in commands(Home(tmp_path)).items()}

    assert [len(group) for group in seen.values()] == [4, 1, 3]
    for environment in (environment for group in seen.values() for environment in group):
        assert environment.keys() & OPERATORS.keys() == set()
    for environment in seen["airflow"] + seen["redis"]:
        assert [value for value in environment.values() if value.startswith("canary")] == []
    for environment in seen["airflow"]:
        assert OF_AUTHORS.items() <= environment.items()
    for environment in seen["svops"]:
        assert OF_SVOPS.items() <= environment.items()


def test_an_operator_passes_more_to_tasks_by_name_or_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_PROFILE", "KUBECONFIG", "GITHUB_TOKEN"):
        monkeypatch.setenv(name, "given")
    monkeypatch.setenv("AIRFLOW_TASK_ENV", "KUBECONFIG, AWS_*")

    environment = printed(commands(Home(tmp_path))["airflow"][0])

    assert {name for name, value in environment.items() if value == "given"} == {
        "AWS_REGION",
        "AWS_PROFILE",
        "KUBECONFIG",
    }


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def started(home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Read the settings as each process of SVOps does at its start."""
    return subprocess.run(
        [sys.executable, "-c", "import svops.settings"],
        cwd=REPOSITORY,
        env=bare_environment(home, **env),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_a_home_that_others_can_read_is_closed_with_the_files_in_it(tmp_path: Path) -> None:
    """Before: an existing home stayed 0755 and its database 0644. Now: 0700 and 0600."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "secrets").mkdir()
    for path in (home / "svops.sqlite3", home / "secret_key"):
        path.write_text("x" * 40)
        path.chmod(0o644)
    home.chmod(0o755)
    (home / "secrets").chmod(0o755)

    answer = started(home)

    assert answer.returncode == 0, answer.stderr
    assert {path.name: mode(path) for path in (home, *home.iterdir())} == {
        "home": 0o700,
        "secrets": 0o700,
        "svops.sqlite3": 0o600,
        "secret_key": 0o600,
    }


def test_the_runner_closes_the_home_before_it_writes_a_secret_into_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)

    assert run("with", "redis", "--", "true", home=home) == (0, "", "")

    assert mode(home) == 0o700


def test_the_runner_and_the_settings_know_a_home_by_the_same_files() -> None:
    assert OUR_FILES == env.OUR_FILES


def test_a_directory_that_is_open_and_not_only_ours_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    """Closing `/tmp` or a project's folder would lock others out of it."""
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "of-others").touch()
    shared.chmod(0o755)

    by_settings = started(shared)
    by_runner = run("with", "redis", "--", "true", home=shared)

    assert by_settings.returncode == 1
    assert "is open to others and holds other files: its own directory is expected" in by_settings.stderr
    assert by_runner == (
        1,
        "",
        f"{shared} is open to others and holds other files: set SVOPS_HOME to a directory of its own.\n",
    )
    assert mode(shared) == 0o755
    assert [path.name for path in shared.iterdir()] == ["of-others"]


@pytest.mark.parametrize(
    ("key", "weakness"),
    [
        ("x", "1 characters"),
        ("a" * 64, "1 different characters"),
        ("abc" * 20, "3 different characters"),
        ("short-but-various-0123456789", "28 characters"),
        ("django-insecure-0123456789abcdefghijklmnopq", "an example key"),
    ],
)
def test_a_weak_secret_key_stops_the_start_without_being_printed(tmp_path: Path, key: str, weakness: str) -> None:
    """Before: `SECRET_KEY=x` started, and everybody could sign a token of an administrator. Now: refused."""
    answer = started(tmp_path, SECRET_KEY=key, DATABASE_URL=f"sqlite:///{tmp_path}/db")

    assert answer.returncode == 1
    last = answer.stderr.strip().splitlines()[-1]
    assert last == (
        f"django.core.exceptions.ImproperlyConfigured: SECRET_KEY is too weak ({weakness}): at least 32 random "
        "characters are expected, as `python -c 'import secrets; print(secrets.token_urlsafe(50))'` prints"
    )


def test_a_random_secret_key_starts(tmp_path: Path) -> None:
    key = os.urandom(32).hex()

    assert started(tmp_path, SECRET_KEY=key, DATABASE_URL=f"sqlite:///{tmp_path}/db").returncode == 0
