"""Whether pushes of Airflow arrive."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from runner.home import REPOSITORY
from svops.doctor import listener
from svops.doctor.examination import examine
from svops.doctor.findings import Finding, Outcome
from tests.doctor.conftest import Guard
from tests.doctor.test_rights import ALL
from workflows.naming import DEFAULT
from workflows.watch import arrivals

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = "the secret of the listener"


@pytest.fixture(autouse=True)
def _nothing_has_arrived(settings: Settings) -> None:
    settings.INGEST_SECRET = SECRET
    arrivals._redis().delete(arrivals._key(DEFAULT))
    arrivals._noted.clear()


def rows() -> dict[str, Finding]:
    return {finding.check: finding for finding in examine() if finding.part == "Listener"}


def push(**told: object) -> int:
    """Push to SVOps as the plugin does. Return the status."""
    record = {
        "kind": "run",
        "at": timezone.now().isoformat(),
        "dag_id": "etl",
        "dag_run_id": "manual__1",
        "state": "running",
        "run_type": "manual",
        "start_date": None,
        "end_date": None,
    }
    body = json.dumps({"records": [record], "dropped": 0, **told}).encode()
    sent_at = str(int(time.time()))
    signature = hmac.new(SECRET.encode(), sent_at.encode() + b"." + body, hashlib.sha256).hexdigest()
    headers = {"X-SVOps-Timestamp": sent_at, "X-SVOps-Signature": signature}
    return Client().post("/api/v1/ingest", body, content_type="application/json", headers=headers).status_code


def test_the_version_that_is_expected_is_that_of_the_plugin() -> None:
    plugin = (REPOSITORY / "plugins" / "svops_listener.py").read_text()

    assert re.findall(r'^VERSION = "(\d+)"', plugin, re.MULTILINE) == [arrivals.LISTENER_VERSION]


def test_a_push_of_ours_is_taken_and_is_no_arrival(guarded: Guard, settings: Settings, live_server: LiveServer) -> None:
    guarded(ALL)
    settings.SVOPS_INGEST_URL = f"{live_server.url}/api/v1/ingest"

    seen = rows()

    assert {name: one.outcome for name, one in seen.items()} == {
        "SVOps takes pushes": Outcome.WORKS,
        "plugin installed": Outcome.WORKS,
        "pushes arrive": Outcome.UNTRIED,
    }
    assert seen["pushes arrive"].found == "no push has arrived lately"


def test_the_last_push_is_shown_with_its_version(guarded: Guard) -> None:
    guarded(ALL)
    assert push(version=arrivals.LISTENER_VERSION, dropped=3) == 202

    seen = rows()["pushes arrive"]

    assert seen.outcome == Outcome.WORKS
    assert re.fullmatch(
        rf"version {arrivals.LISTENER_VERSION}, the last one \d+ s ago; that process has dropped 3 records", seen.found
    )


def test_an_older_plugin_is_named(guarded: Guard) -> None:
    guarded(ALL)
    assert push() == 202

    seen = rows()["pushes arrive"]

    assert (seen.outcome, seen.found.partition(",")[0]) == (Outcome.WRONG, "version 1")
    assert seen.mend == "Copy plugins/svops_listener.py, version 3, into Airflow's plugins folder."


def test_another_secret_than_that_of_the_web_process_is_named(settings: Settings, live_server: LiveServer) -> None:
    settings.SVOPS_INGEST_URL = f"{live_server.url}/api/v1/ingest"

    # The web process of this test has the secret of this process: an old signature is refused in the same way.
    seen = listener.accepts_pushes(DEFAULT, SECRET, now=timezone.now() - timedelta(hours=1))

    assert (seen.outcome, seen.found) == (Outcome.WRONG, "the signature is refused")
    assert seen.mend == "Give the web process the same SVOPS_INGEST_SECRET."


def test_a_web_process_that_is_down_is_named(settings: Settings, unused_tcp_port: int) -> None:
    settings.SVOPS_INGEST_URL = f"http://127.0.0.1:{unused_tcp_port}/api/v1/ingest"

    seen = listener.accepts_pushes(DEFAULT, SECRET, now=timezone.now())

    assert seen.found == f"{settings.SVOPS_INGEST_URL} does not take a push: ConnectionError"
    assert not seen.is_problem


def test_an_airflow_without_the_plugin_is_told_to_install_it(guarded: Guard) -> None:
    guarded(ALL).plugins = []

    seen = rows()["plugin installed"]

    assert (seen.outcome, seen.found) == (Outcome.WRONG, "Airflow has no plugin svops_listener")
    assert not seen.is_problem


def test_a_run_whose_push_does_not_come_is_wrong() -> None:
    assert push(version="2") == 202

    seen = listener.arrived(DEFAULT, timezone.now() + timedelta(seconds=1), patience=0.5)

    assert (seen.outcome, seen.found) == (Outcome.WRONG, "no push came within 0.5 s of the run")
