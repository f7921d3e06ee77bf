"""What is down or wrong is a row with a cure, never an error of the doctor."""

from __future__ import annotations

import ipaddress

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from notifications.models import NotificationConfig
from svops.doctor.examination import examine
from svops.doctor.findings import Finding, Outcome
from tests.doctor.conftest import Guard
from tests.doctor.test_rights import ALL
from workflows.airflow.tests.scripted import Hold, Reply
from workflows.models import Airflow

pytestmark = pytest.mark.django_db


def row(check: str) -> Finding:
    [finding] = [finding for finding in examine() if finding.check == check]
    return finding


@pytest.fixture
def working(guarded: Guard, db: None) -> None:
    """An Airflow that allows everything, and a beat that has just ticked."""
    guarded(ALL)
    Airflow.default()
    Airflow.objects.update(ticked_at=timezone.now())


def test_without_airflow_everything_else_is_checked(settings: Settings, unused_tcp_port: int) -> None:
    settings.AIRFLOW_URL = f"http://127.0.0.1:{unused_tcp_port}"

    findings = list(examine())

    of_airflow = [finding for finding in findings if finding.part == "Airflow"]
    assert [(one.check, one.outcome, one.found) for one in of_airflow] == [
        ("answer", Outcome.WRONG, "no answer from Airflow: ConnectionError")
    ]
    assert of_airflow[0].mend == "Start Airflow, or mend AIRFLOW_URL and the network between."
    others = {finding.check: finding.outcome for finding in findings if finding.part == "SVOps"}
    assert others == {"database": Outcome.WORKS, "Redis": Outcome.WORKS, "worker and beat": Outcome.WRONG}
    assert Airflow.objects.filter(reachable=False).count() == 0


def test_a_wrong_password_is_said_once(guarded: Guard, settings: Settings) -> None:
    guarded(ALL)
    settings.AIRFLOW_PASSWORD = "a secret that is wrong"

    findings = [finding for finding in examine() if finding.part == "Airflow"]

    assert [(one.check, one.outcome, one.found) for one in findings if one.is_problem] == [
        ("sign in", Outcome.WRONG, "Invalid credentials")
    ]
    assert settings.AIRFLOW_PASSWORD not in str([finding.as_json() for finding in findings])


def test_after_a_call_that_hangs_the_rest_is_not_tried(guarded: Guard, settings: Settings) -> None:
    airflow = guarded(ALL)
    settings.AIRFLOW_READ_TIMEOUT = 0.5
    held = Hold()
    airflow.pages["GET", "/api/v2/pools"] = lambda request: (held.released.wait(20), Reply(200, {}))[1]

    findings = [finding for finding in examine() if finding.part == "Airflow"]
    held.released.set()

    by_check = {finding.check: finding for finding in findings}
    assert by_check["list pools"].outcome == Outcome.WRONG
    assert by_check["list pools"].found == "no answer from Airflow: ReadTimeout"
    assert by_check["list import errors"].outcome == Outcome.WORKS
    assert {by_check[name].outcome for name in ("start a run", "stop a run", "pause a DAG")} == {Outcome.UNTRIED}


@pytest.mark.parametrize(
    ("ahead", "outcome", "found"),
    [
        (0, Outcome.WORKS, ""),
        (120, Outcome.WRONG, "Airflow's clock is 120 s ahead of ours: changes get lost"),
        (-120, Outcome.WRONG, "Airflow's clock is 120 s behind ours: changes get lost"),
    ],
)
def test_clocks_that_differ_are_wrong(guarded: Guard, ahead: int, outcome: Outcome, found: str) -> None:
    airflow = guarded(ALL)
    airflow.clock_ahead = ahead

    seen = row("clock")

    assert seen.outcome == outcome
    assert seen.found.replace("119 s", "120 s") == found or not found


def test_a_part_of_airflow_that_is_not_healthy_is_named(guarded: Guard) -> None:
    airflow = guarded(ALL)
    airflow.answers["GET", "/monitor/health"] = {
        "metadatabase": {"status": "healthy"},
        "scheduler": {"status": "unhealthy"},
        "dag_processor": {"status": None},
        "triggerer": {"status": "healthy"},
    }

    seen = row("health")

    assert (seen.outcome, seen.found, seen.mend) == (
        Outcome.WRONG,
        "not healthy: scheduler",
        "Start its scheduler.",
    )


def test_a_redis_that_is_away_is_a_row(working: None, settings: Settings, unused_tcp_port: int) -> None:
    settings.REDIS_URL = f"redis://:hunter2hunter2@127.0.0.1:{unused_tcp_port}/0"

    seen = row("Redis")

    assert (seen.outcome, seen.found) == (Outcome.WRONG, "it does not answer: ConnectionError")


def test_missing_migrations_are_a_row(working: None) -> None:
    [newest] = MigrationExecutor(connection).loader.graph.leaf_nodes("workflows")
    MigrationRecorder(connection).record_unapplied(*newest)

    seen = row("database")

    assert (seen.outcome, seen.found, seen.mend) == (
        Outcome.WRONG,
        "1 migrations are missing",
        "Run manage.py migrate.",
    )


def test_a_receiver_that_does_not_answer_is_named_without_its_secret(
    working: None, settings: Settings, unused_tcp_port: int, ada: User
) -> None:
    settings.NOTIFICATION_ALLOWED_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]
    config = NotificationConfig(name="Ops", channel="webhook", owner=ada)
    config.target = f"http://127.0.0.1:{unused_tcp_port}/hook/very-secret"
    config.save()

    seen = row(f"127.0.0.1:{unused_tcp_port}")

    assert (seen.outcome, seen.found, seen.needed) == (Outcome.WRONG, "no answer: connection refused", False)
    assert seen.mend == "Mend the target of Ops, or the network between."


def test_without_a_secret_pushes_are_off_and_that_is_no_problem(working: None, settings: Settings) -> None:
    settings.INGEST_SECRET = ""

    [seen] = [finding for finding in examine() if finding.part == "Listener"]

    assert (seen.outcome, seen.found) == (Outcome.ABSENT, "SVOPS_INGEST_SECRET is not set, so pushes are off")
    assert not seen.is_problem


@pytest.mark.parametrize(
    ("url", "outcome", "found"),
    [
        ("json://example.com/a-secret-token", Outcome.WORKS, "Apprise reads json://***; nothing was sent"),
        ("discord://", Outcome.WRONG, None),
        ("file:///etc/passwd", Outcome.WRONG, None),
    ],
)
def test_the_url_of_an_apprise_config_is_read_and_nothing_is_sent(
    working: None, ada: User, url: str, outcome: Outcome, found: str | None
) -> None:
    config = NotificationConfig(name="Ops", channel="apprise", owner=ada)
    config.target = url
    config.save()

    seen = row("Ops")

    assert seen.outcome == outcome
    assert found is None or seen.found == found
    assert "a-secret-token" not in str(seen.as_json())
    assert seen.mend == ("" if outcome == Outcome.WORKS else "Mend the target of Ops.")
