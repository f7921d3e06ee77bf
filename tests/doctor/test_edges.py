"""The command and the page of the doctor."""

from __future__ import annotations

import json

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from accounts.models import Role, User
from tests.doctor.conftest import Guard
from tests.doctor.test_rights import ALL
from workflows.models import Airflow

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _beat_ticks(db: None) -> None:
    Airflow.default()
    Airflow.objects.update(ticked_at=timezone.now())


def browser(role: Role) -> Client:
    user = User.objects.create_user("somebody", "somebody@example.com", "correct horse battery", role=role)
    client = Client()
    client.force_login(user)
    return client


def test_the_command_ends_well_when_nothing_is_missing(guarded: Guard, capsys: pytest.CaptureFixture[str]) -> None:
    guarded(ALL)

    call_command("doctor")

    printed = capsys.readouterr().out
    assert "start a run" in printed
    assert "no problem." in printed.splitlines()[-1]


def test_the_command_exits_with_1_and_says_what_is_missing(guarded: Guard, capsys: pytest.CaptureFixture[str]) -> None:
    guarded(ALL - {"can create on DAG Runs"})

    with pytest.raises(SystemExit) as ended:
        call_command("doctor", short=True)

    assert ended.value.code == 1
    line = capsys.readouterr().out.strip()
    assert line.startswith("Doctor: ")
    assert "a problem with start a run (can create on DAG Runs)." in line


def test_json_is_for_programs(guarded: Guard, capsys: pytest.CaptureFixture[str]) -> None:
    guarded(ALL - {"can read on Pools"})

    call_command("doctor", json=True)

    answer = json.loads(capsys.readouterr().out)
    [pools] = [finding for finding in answer["findings"] if finding["check"] == "list pools"]
    assert answer["ok"] is True
    assert pools == {
        "part": "Airflow",
        "airflow": "default",
        "check": "list pools",
        "outcome": "missing right",
        "found": "can read on Pools",
        "mend": "Add `can read on Pools` to a role of SVOps' user; of Airflow's roles, Viewer is the smallest with it."
        " Without it: `explain` does not name a full pool.",
        "needed": False,
        "ms": pools["ms"],
        "problem": False,
    }


def test_an_administrator_finds_the_page_and_runs_it(guarded: Guard) -> None:
    airflow = guarded(ALL - {"can create on DAG Runs"})
    client = browser(Role.ADMIN)
    assert 'href="/admin/doctor/"' in client.get("/admin/").content.decode()
    assert "Check now" in client.get("/admin/doctor/").content.decode()
    assert airflow.requests == []

    shown = client.post("/admin/doctor/").content.decode()

    assert "Add `can create on DAG Runs` to a role of SVOps&#x27; user" in shown
    assert "a problem with start a run (can create on DAG Runs)." in shown


@pytest.mark.parametrize("role", [Role.USER, Role.VIEWER])
def test_nobody_else_runs_it(guarded: Guard, role: Role) -> None:
    airflow = guarded(ALL)

    answer = browser(role).post("/admin/doctor/")

    assert (answer.status_code, airflow.requests) in [(302, []), (403, [])]
