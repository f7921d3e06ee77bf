"""What stops a start is one sentence; what a start leaves behind is nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
import requests

from runner.ports import free_port
from runner.tests.commands import run, start

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
        f"Port {taken} on 127.0.0.1 for {part} is taken: stop what listens there, or set {variable} to another port.\n",
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
        ("AIRFLOW_URL", "http", "The Airflow of AIRFLOW_URL cannot be used: it does not answer"),
        ("REDIS_URL", "redis", "The Redis of REDIS_URL or REDIS_HOST cannot be used: it does not answer"),
    ],
)
def test_a_part_from_elsewhere_that_does_not_answer_stops_the_start(
    tmp_path: Path, ports: dict[str, str], variable: str, scheme: str, complaint: str
) -> None:
    code, output, errors = run("up", home=tmp_path, env=ports | {variable: f"{scheme}://127.0.0.1:1"})

    assert (code, output) == (1, "")
    assert errors.startswith(complaint)
    assert errors.count("\n") == 1


def test_a_home_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    code, _, errors = run("up", home=tmp_path / "file" / "home")

    assert code == 1
    assert errors == (
        f"{tmp_path / 'file' / 'home'} cannot be created (Not a directory): set SVOPS_HOME to a directory that can.\n"
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

        process.communicate(timeout=150)

        with pytest.raises(redis.ConnectionError):
            client.ping()
    assert process.returncode == 0


def test_a_served_part_that_dies_is_started_again_at_the_same_address_and_reported(tmp_path: Path) -> None:
    with start("serve", "redis", home=tmp_path, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stderr is not None
        with redis.Redis.from_url(json.loads(process.stdout.readline())["REDIS_URL"]) as client:
            os.kill(client.info()["process_id"], signal.SIGKILL)
            line = process.stderr.readline()
            await_answer(client)
        process.stdin.close()
        assert process.wait(timeout=200) == 0
        errors = process.stderr.read()

    assert line.startswith("redis was killed by SIGKILL")
    assert "it starts again in 1 s (restart 1 of 5)" in line
    assert errors == ""


def await_answer(client: redis.Redis) -> None:
    deadline = time.monotonic() + 200
    while True:
        try:
            client.ping()
        except redis.ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return


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
def test_up_after_demo_prints_a_sign_in_that_works_and_neither_records_an_outage_of_airflow(
    tmp_path: Path, ports: dict[str, str]
) -> None:
    code, output, _ = run("demo", home=tmp_path, env=ports)
    assert code == 0, output

    process = start("up", home=tmp_path, env=ports)
    assert process.stdout is not None
    lines = dict(
        line.strip().partition("  ")[::2] for line in iter(process.stdout.readline, "Ctrl-C stops everything.\n")
    )
    try:
        file = tmp_path / "secrets" / "admin_password"
        assert lines["Sign in"].strip() == f"admin, with the password in {file}"
        signed_in = requests.post(
            f"http://127.0.0.1:{ports['SVOPS_PORT']}/api/v1/auth/login",
            json={"username": "admin", "password": file.read_text()},
            timeout=200,
        )
        assert signed_in.status_code == 200
        # A process that dies is back at the same address.
        sessions = json.loads((tmp_path / "run" / "sessions.json").read_text())["sessions"]
        os.kill(next(session["leader"] for session in sessions if session["name"] == "web"), signal.SIGKILL)
        assert "web was killed by SIGKILL" in process.stdout.readline()
        await_http(f"http://127.0.0.1:{ports['SVOPS_PORT']}/healthz")
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=200)
    assert (process.returncode, errors) == (0, "")
    with closing(sqlite3.connect(tmp_path / "svops.sqlite3")) as database:
        recorded = "SELECT type FROM workflows_event WHERE type LIKE 'system.airflow%'"
        assert database.execute(recorded).fetchall() == []


def await_http(url: str) -> None:
    deadline = time.monotonic() + 200
    while True:
        try:
            requests.get(url, timeout=5).raise_for_status()
        except requests.RequestException:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return


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
            lines[-2],
            "Ctrl-C stops everything.",
        ]
        assert re.fullmatch(r"  Doctor: \d+ checks, no problem\. More: \.venv/bin/python manage\.py doctor", lines[-2])
        headers = {"Authorization": f"Bearer {os.environ['READY_TOKEN']}"}
        checks = requests.get(f"{url}/readyz", headers=headers, timeout=10).json()["checks"]
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
        _, errors = process.communicate(timeout=200)
    assert (process.returncode, errors) == (0, "")
    assert not (tmp_path / "runtime.env").exists()


def test_what_the_operator_sets_is_used_and_not_replaced(tmp_path: Path) -> None:
    """`READY_TOKEN_FILE` and `SVOPS_INGEST_SECRET` were overruled by secrets of the home."""
    (tmp_path / "token").write_text("from a file\n")
    code = "from runner.platform import Config; found = Config.read(); print(found.ready_token, found.ingest_secret)"
    given = {
        "SVOPS_HOME": str(tmp_path / "home"),
        "READY_TOKEN_FILE": str(tmp_path / "token"),
        "SVOPS_INGEST_SECRET": "own",
    }
    env = {name: value for name, value in os.environ.items() if name not in ("READY_TOKEN", "DJANGO_SETTINGS_MODULE")}

    done = subprocess.run([sys.executable, "-c", code], env=env | given, capture_output=True, text=True, check=True)

    assert done.stdout == "from a file own\n"
