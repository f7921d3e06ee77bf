"""What stops a start is one sentence; what a start leaves behind is nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import requests

from svops.local.ports import free_port
from svops.local.tests.commands import run, start

EVENTS = [
    "workflow.triggered",
    "workflow.started",
    "task.started          start",
    "task.completed        start",
    "task.started          processing",
    "task.completed        processing",
    "task.started          completion",
    "task.completed        completion",
    "workflow.completed",
]


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def ports() -> dict[str, str]:
    return {"SVOPS_PORT": str(free_port()), "AIRFLOW_PORT": str(free_port())}


@pytest.mark.parametrize(("variable", "part"), [("SVOPS_PORT", "SVOps"), ("AIRFLOW_PORT", "Airflow")])
def test_a_taken_port_is_named_with_the_variable_that_moves_it(
    tmp_path: Path, ports: dict[str, str], taken: int, variable: str, part: str
) -> None:
    assert run("up", home=tmp_path, env=ports | {variable: str(taken)}) == (
        1,
        "",
        f"Port {taken} on 127.0.0.1, where {part} would listen, is taken: "
        f"stop what listens there, or set {variable} to another port.\n",
    )


@pytest.mark.parametrize(
    ("env", "complaint"),
    [
        ({"SVOPS_PORT": "eighty"}, "SVOPS_PORT='eighty' is not a whole number\n"),
        (
            {"DATABASE_URL": "postgresql://svops@127.0.0.1:1/svops"},
            "SECRET_KEY is not set: a long random string is expected when DATABASE_URL is given\n",
        ),
    ],
)
def test_a_wrong_setting_stops_the_start_with_its_name(tmp_path: Path, env: dict[str, str], complaint: str) -> None:
    code, output, errors = run("up", home=tmp_path, env=env)

    assert (code, output, errors) == (1, "", complaint)


@pytest.mark.parametrize(
    ("variable", "scheme", "complaint"),
    [
        ("AIRFLOW_URL", "http", "The Airflow that AIRFLOW_URL names can not be used: it does not answer"),
        ("REDIS_URL", "redis", "The Redis that REDIS_URL or REDIS_HOST names can not be used: it does not answer"),
    ],
)
def test_a_part_from_elsewhere_that_does_not_answer_stops_the_start(
    tmp_path: Path, ports: dict[str, str], variable: str, scheme: str, complaint: str
) -> None:
    code, output, errors = run("up", home=tmp_path, env=ports | {variable: f"{scheme}://127.0.0.1:1"})

    assert (code, output) == (1, "")
    assert errors.startswith(complaint)
    assert errors.count("\n") == 1


def test_a_home_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    code, _, errors = run("up", home=tmp_path / "file" / "home")

    assert code == 1
    assert errors == (
        f"{tmp_path / 'file' / 'home'} can not be created (Not a directory): set SVOPS_HOME to a directory that can.\n"
    )


def test_a_command_runs_beside_the_parts_and_its_exit_code_is_kept(tmp_path: Path) -> None:
    code, output, errors = run("with", "redis", "--", "sh", "-c", "echo $REDIS_URL; exit 7", home=tmp_path)

    assert (code, errors) == (7, "")
    with redis.Redis.from_url(output.strip()) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_served_parts_end_with_the_input_of_their_server(tmp_path: Path) -> None:
    process = start("serve", "redis", home=tmp_path, stdin=subprocess.PIPE)
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["REDIS_URL"]
    with redis.Redis.from_url(url) as client:
        assert client.ping() is True

        process.communicate(timeout=30)

        with pytest.raises(redis.ConnectionError):
            client.ping()
    assert process.returncode == 0


def test_a_served_part_that_dies_is_told_of_in_one_message_while_the_input_is_still_open(tmp_path: Path) -> None:
    with start("serve", "redis", home=tmp_path, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        with redis.Redis.from_url(json.loads(process.stdout.readline())["REDIS_URL"]) as client:
            os.kill(client.info()["process_id"], signal.SIGKILL)

        assert process.wait(timeout=60) == 1
        errors = process.stderr.read()

    assert errors.startswith("redis was killed by SIGKILL, so everything else was stopped. Its log is ")
    assert "Fatal Python error" not in errors


def test_nobody_else_may_read_the_secrets_of_a_home(tmp_path: Path) -> None:
    run("with", "redis", "--", "true", home=tmp_path / "home")

    modes = {
        str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode)
        for path in (tmp_path / "home", *(tmp_path / "home").glob("secrets/*"), *tmp_path.glob("home/redis/*.conf"))
    }

    assert modes == {"home": 0o700, "home/secrets/redis_password": 0o600, "home/redis/redis.conf": 0o600}


@pytest.mark.skipif(
    not (shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))),
    reason="PostgreSQL is not installed",
)
def test_a_private_postgresql_serves_a_command_and_leaves_nothing(tmp_path: Path) -> None:
    script = "import os, psycopg; print(psycopg.connect(os.environ['DATABASE_URL']).info.user)"

    code, output, errors = run("with", "postgres", "--", sys.executable, "-c", script, home=tmp_path)

    assert (code, output, errors) == (0, "svops\n", "")


@pytest.mark.airflow
def test_a_demo_on_an_empty_home_shows_every_event_in_order_and_stops_everything(
    tmp_path: Path, ports: dict[str, str]
) -> None:
    code, output, errors = run("demo", home=tmp_path, env=ports)

    assert (code, errors) == (0, ""), output
    assert [line.partition("Z  ")[2].rstrip() for line in output.splitlines() if line.startswith("  20")] == EVENTS
    assert "The run has completed: 9 events, all in order." in output
    for port in ports.values():
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://127.0.0.1:{port}", timeout=5)


@pytest.mark.airflow
def test_up_says_where_everything_is_once_it_is_ready(tmp_path: Path, ports: dict[str, str]) -> None:
    process = start("up", home=tmp_path, env=ports | {"SVOPS_ADMIN_PASSWORD": "a long enough passphrase"})
    assert process.stdout is not None
    url, airflow = (f"http://127.0.0.1:{port}" for port in ports.values())
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if line.startswith("Ctrl-C"):
            break
    try:
        password = (tmp_path / "secrets" / "airflow_password").read_text()
        assert lines[lines.index(f"SVOps is ready at {url}") :] == [
            f"SVOps is ready at {url}",
            f"  Console         {url}/",
            f"  Admin           {url}/admin/",
            f"  API docs        {url}/docs",
            f"  Airflow         {airflow}",
            "  Sign in         admin, with the password that was given to it",
            f"  Airflow sign in admin / {password}",
            "Ctrl-C stops everything.",
        ]
        checks = requests.get(f"{url}/readyz", timeout=10).json()["checks"]
        assert checks.keys() >= {"database", "redis", "airflow", "beat"}
        assert {check["status"] for check in checks.values()} == {"ok"}
        signed_in = requests.post(
            f"{url}/api/v1/auth/login",
            json={"username": "admin", "password": "a long enough passphrase"},
            timeout=10,
        )
        assert signed_in.status_code == 200
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert not (tmp_path / "runtime.env").exists()
