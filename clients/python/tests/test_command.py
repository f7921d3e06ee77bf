"""The command `svops` against the real platform."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import keyring
import pytest
from django.db import transaction
from django.utils import timezone
from keyring.backend import KeyringBackend
from keyring.backends import fail
from rich.console import Console
from typer.testing import CliRunner

from accounts.models import ApiKey, User
from clients.python.tests.conftest import PASSWORD
from clients.python.tests.test_follow import end, ids_of
from svops_client import Client
from svops_client.cli import app as command
from svops_client.cli import show
from svops_client.cli.watch import Progress
from tests.control.staged import ControlledAirflow
from tests.live import log
from tests.live.parts import Web
from workflows.eventlog import events as catalogue
from workflows.models import Run, TaskInstance, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState

Svops = Callable[..., tuple[int, str, str]]


class Memory(KeyringBackend):
    """A keyring that forgets at the end of the test."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty place for the command's files, and no keyring."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("SVOPS_API_KEY", raising=False)
    before = keyring.get_keyring()
    keyring.set_keyring(fail.Keyring())  # type: ignore[no-untyped-call]
    yield tmp_path / "svops"
    keyring.set_keyring(before)


@pytest.fixture
def svops(
    home: Path, web: Web, api_key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Svops:
    """Runs a command as Ada; returns exit code, output and errors."""
    monkeypatch.setenv("SVOPS_URL", web.url)
    monkeypatch.setenv("SVOPS_API_KEY", api_key)
    monkeypatch.setattr(show.out, "width", 40)  # the narrow window of whoever started the tests

    def run(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = command.run(argv)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def newest() -> Run:
    return Run.objects.latest("created_at")


def test_a_trigger_prints_the_id_of_the_run_and_types_parameters_by_the_schema(svops: Svops, nightly: Workflow) -> None:
    code, said, _ = svops("trigger", "Nightly", "-p", "rows=5", "-p", "table=7", "--note", "by hand")

    assert (code, said.strip()) == (0, str(newest().pk))
    assert newest().parameters == {"rows": 5, "table": "7"}
    assert newest().note == "by hand"


def test_parameters_of_a_file_are_beneath_those_of_the_command(svops: Svops, nightly: Workflow, tmp_path: Path) -> None:
    (tmp_path / "parameters.json").write_text('{"rows": 3, "mode": "slow"}')

    code, _, _ = svops("trigger", str(nightly.pk), "--params", str(tmp_path / "parameters.json"), "-p", "rows=4")

    assert (code, newest().parameters) == (0, {"rows": 4, "mode": "slow"})


@pytest.mark.parametrize(
    ("param", "problem"),
    [
        ("rows=many", "rows: expected integer"),
        ("rows", "expected name=value"),
        ("rows=-5", "parameters.rows: -5 is less than the minimum of 1"),
    ],
)
def test_a_wrong_parameter_is_named_and_nothing_is_started(
    svops: Svops, nightly: Workflow, param: str, problem: str
) -> None:
    before = Run.objects.count()

    code, _, said = svops("trigger", "Nightly", "-p", param)

    assert (code, Run.objects.count()) == (2, before)
    assert problem in " ".join(said.replace("│", " ").split())


@pytest.mark.parametrize(
    ("state", "expected"), [(RunState.SUCCESS, 0), (RunState.FAILED, 1), (RunState.STOPPED, 3)], ids=str
)
def test_the_exit_code_follows_the_run(svops: Svops, run: Run, state: RunState, expected: int) -> None:
    log.append(run, 1)
    if state == RunState.STOPPED:
        Run.objects.filter(pk=run.pk).update(state=state)
        record(run, catalogue.WorkflowStopped(airflow=DEFAULT, state=state, attempt=1, by="ada", note="", reason=""))
    else:
        end(run, state)

    code, said, _ = svops("watch", str(run.pk))

    assert code == expected
    assert said.split()[1] == "task.started"
    assert f"Nightly {state}" in svops("watch", str(run.pk))[2]


def record(run: Run, data: catalogue.EventData, task_id: str = "") -> None:
    with transaction.atomic():
        catalogue.record(data, now=timezone.now(), run=Run.objects.get(pk=run.pk), task_id=task_id)


def fail_load(run: Run, airflow: ControlledAirflow) -> None:
    """Let the task `load` fail with a log. It ended long ago, so no line of the log is still to come."""
    now = timezone.now() - timedelta(minutes=30)
    airflow.put_task(run, "load", "failed")
    airflow.tasks["etl", run.dag_run_id, "load", -1] |= {"start_date": now.isoformat(), "end_date": now.isoformat()}
    airflow.put_log(run, "load", "reading", "[bold] ValueError: no rows")
    TaskInstance.objects.create(run=run, task_id="load", state="failed", try_number=1, started_at=now, ended_at=now)
    record(run, catalogue.TaskFailed(state="failed", map_index=-1, try_number=1, duration_s=2.5), "load")
    end(run, RunState.FAILED)


def test_the_end_of_the_log_of_a_failed_task_is_shown(svops: Svops, run: Run, airflow: ControlledAirflow) -> None:
    fail_load(run, airflow)

    code, said, _ = svops("watch", str(run.pk))

    assert code == 1
    assert "load has failed. The end of its log:\n  │ reading\n  │ [bold] ValueError: no rows\n" in said


def test_the_tree_shows_each_task_with_its_state(web: Web, api_key: str, run: Run, airflow: ControlledAirflow) -> None:
    log.append(run, 1)
    fail_load(run, airflow)
    with Client(web.url, api_key=api_key) as client:
        progress = Progress(client.run(str(run.pk)), client.workflow(run.workflow_id).task_ids())
        for event in progress.run.follow():
            progress.take(event)

    picture = io.StringIO()
    Console(width=300, file=picture).print(progress)
    lines = [line.strip("├└─ │").split() for line in picture.getvalue().splitlines()]

    assert lines[0][:2] == ["Nightly", "failed"]
    assert lines[1:4] == [["·", "extract"], ["·", "transform"], ["✗", "load", "failed", "2.5", "s"]]
    assert lines[4][1] == "step_1"


def test_logs_are_printed_as_they_are(svops: Svops, run: Run, airflow: ControlledAirflow) -> None:
    fail_load(run, airflow)

    assert svops("logs", str(run.pk), "load")[1] == "reading\n[bold] ValueError: no rows\n"
    assert svops("logs", str(run.pk), "-f")[1] == "load: reading\nload: [bold] ValueError: no rows\n"
    [line] = map(json.loads, svops("logs", str(run.pk), "load", "--tail", "1", "-o", "json")[1].splitlines())
    assert (line["text"], line["try_number"]) == ("[bold] ValueError: no rows", 1)


def test_events_are_one_a_line(svops: Svops, run: Run) -> None:
    log.append(run, 3)

    _, said, _ = svops("events", "--run", str(run.pk), "-o", "json")

    assert [json.loads(line)["id"] for line in said.splitlines()] == ids_of(run)
    assert len(svops("events", "--run", str(run.pk))[1].splitlines()) == 3


def test_runs_and_workflows_are_listed(svops: Svops, run: Run) -> None:
    log.append(run, 1)
    [listed] = json.loads(svops("runs", "-w", "Nightly", "-n", "1", "-o", "json")[1])
    code, table, _ = svops("runs", "-s", "queued", "-n", "3")

    assert (listed["id"], listed["state"]) == (str(run.pk), "queued")
    assert listed["created_at"].endswith("Z")
    assert code == 0
    assert str(run.pk) in table
    assert "Nightly" in svops("workflows", "--search", "night")[1]
    assert str(run.pk) in svops("show", str(run.pk))[1]


def test_a_run_is_stopped_and_explained(svops: Svops, nightly: Workflow) -> None:
    svops("trigger", "Nightly")
    run_id = str(newest().pk)

    code, _, said = svops("stop", run_id, "--note", "wrong data")

    assert code == 0
    assert newest().state in {"stopping", "stopped"}
    assert "Nightly stop" in said
    assert json.loads(svops("explain", run_id, "-o", "json")[1])["state"] in {"stopping", "stopped"}


def test_an_action_that_does_not_fit_exits_with_one_and_the_reason(svops: Svops, run: Run) -> None:
    log.append(run, 1)
    code, _, said = svops("retry", str(run.pk))

    assert code == 1
    assert "409 wrong_state" in said


def test_the_doctor_tries_address_clock_credentials_and_stream(svops: Svops) -> None:
    code, said, _ = svops("doctor", "-o", "json")

    assert code == 0
    assert [(check["name"], check["good"]) for check in json.loads(said)] == [
        ("address", True),
        ("clock", True),
        ("credentials", True),
        ("live stream", True),
    ]


def test_the_doctor_says_that_nobody_is_there(svops: Svops, unused_tcp_port: int) -> None:
    code, said, _ = svops("--url", f"http://127.0.0.1:{unused_tcp_port}", "doctor")

    assert code == 1
    assert said.startswith("✗ address")


@pytest.fixture
def signing_in(home: Path, web: Web) -> Callable[[], Any]:
    return lambda: CliRunner().invoke(command.app, ["--url", web.url, "login", "--username", "ada"], input=PASSWORD)


def test_a_login_keeps_a_new_key_in_a_file_that_only_its_owner_reads(
    signing_in: Callable[[], Any], home: Path, web: Web, ada: User, capsys: pytest.CaptureFixture[str]
) -> None:
    result = signing_in()

    key = ApiKey.objects.latest("created_at")
    assert result.exit_code == 0, result.output
    assert key.name.startswith("svops on ")
    assert set(key.scopes) == {"workflow:read", "run:trigger", "run:control"}
    assert stat.S_IMODE((home / "keys.json").stat().st_mode) == 0o600
    assert command.run(["whoami", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["username"] == "ada"
    assert PASSWORD not in result.output


def test_where_there_is_a_keyring_no_key_is_in_a_file(signing_in: Callable[[], Any], home: Path, web: Web) -> None:
    memory = Memory()
    keyring.set_keyring(memory)

    result = signing_in()

    assert result.exit_code == 0, result.output
    assert json.loads((home / "keys.json").read_text()) == {}
    assert memory.kept["svops", web.url].startswith("svops_")
    assert command.run(["--url", web.url, "logout"]) == 0
    assert memory.kept == {}


def test_without_a_key_the_exit_code_is_four_and_says_how_to_sign_in(
    home: Path, web: Web, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(["--url", web.url, "whoami"]) == 4
    assert "svops login" in capsys.readouterr().err


def test_the_shell_completes_commands(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"_SVOPS_COMPLETE": "complete_bash", "COMP_WORDS": "svops tri", "COMP_CWORD": "1"}.items():
        monkeypatch.setenv(name, value)

    command.run([])

    assert capsys.readouterr().out.split() == ["trigger"]
