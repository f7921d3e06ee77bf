"""What is masked in the texts that leave, and what is not."""

from __future__ import annotations

import io
import json
import logging
import time
from typing import Any

import pytest
from django.db import transaction

from notifications.messages import message_for
from notifications.models import Delivery, Kind, NotificationConfig
from rest.errors import InvalidInputError, UnavailableError
from rest.masking import mask
from svops.logging import JsonLines, TextLines
from tests.attack.rights.conftest import Office
from workflows import gateway
from workflows.eventlog import events
from workflows.models import Airflow, DagFileError, Event
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import NOW, StagedAirflow, new_run
from workflows.watch import dags

SECRET = "hunter2Secret"
URL = f"postgresql://etl:{SECRET}@db.internal:5432/sales"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJlLXNpZ25hdHVyZQ"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"cannot connect to {URL}!", "cannot connect to postgresql://etl:***@db.internal:5432/sales!"),
        ("redis://:p@ss@host:6379/0", "redis://:***@host:6379/0"),
        ("https://u:p@host/a?mail=a@b.example", "https://u:***@host/a?mail=a@b.example"),
        ("amqp://u:pa/ss@host/v", "amqp://u:***@host/v"),
        ("create_engine('mysql://u:p:w@h/db', pool=1)", "create_engine('mysql://u:***@h/db', pool=1)"),
        ('{"password": "two words", "user": "ada"}', '{"password": ***, "user": "ada"}'),
        ("{'api_key': 'abc', 'n': 1}", "{'api_key': ***, 'n': 1}"),
        ("connect(host=h, password=hunter2, port=1)", "connect(host=h, password=***, port=1)"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", "AWS_SECRET_ACCESS_KEY=***"),
        ("GET /x?access_token=abc.def&page=2", "GET /x?access_token=***&page=2"),
        ("ws?ticket=svopst_0123456789ab_abcdefghijklmnop", "ws?ticket=***"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic ***"),
        (f"Bearer {JWT} was refused", "Bearer *** was refused"),
        (f"token {JWT}", "token ***"),
        ("key svops_0123456789ab_" + "x" * 43, "key ***"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "***"),
        ("ghp_0123456789abcdefghijABCDEFGHIJ", "***"),
        ("https://hooks.slack.com/services/T00/B00/XXXXXXXX", "https://hooks.slack.com/services/***"),
        ("AKIAIOSFODNN7EXAMPLE", "***"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA", "-----BEGIN RSA PRIVATE KEY-----***-----END RSA"),
    ],
)
def test_a_secret_is_masked_and_what_explains_it_is_kept(text: str, masked: str) -> None:
    """Before: nothing was masked but the targets of notifications."""
    assert mask(text) == masked
    assert mask(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "failed in Airflow: extract, load[2]",
        "http://127.0.0.1:8080/api/v2/dags refused the connection",
        "see http://host:8080/x@y and mail ada@example.com",
        "KeyError: 'DB_PASSWORD'",
        "The token was revoked; sign in again.",
        "This needs the scope notification:write.",
        "No rule lets its owner ada build on the DAG sales_daily any more; an admin can add one.",
        "git@github.com:org/repo.git",
        "2026-03-01T12:00:00Z",
    ],
)
def test_a_text_without_a_secret_is_kept(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize(
    "piece",
    [
        "://",
        "://a:",
        "://a:b/",
        "password=",
        "a",
        "eyJ",
        "bearer ",
        "-----BEGIN PRIVATE KEY-----",
        "authorization: ",
        " ",
    ],
)
def test_a_hostile_text_takes_time_in_proportion_to_its_length(piece: str) -> None:
    """A mask that a text can slow down would be an attack itself: four times the text may take ten times as long."""

    def seconds(length: int) -> float:
        text = piece * (length // len(piece))
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            mask(text)
            best = min(best, time.process_time() - began)
        return best

    assert seconds(80_000) < 10 * seconds(20_000) + 0.05


def test_an_import_error_is_stored_and_sent_without_the_password(office: Office, settings: Any) -> None:
    """Before: `dag.import_error` and `import_error` quoted the traceback as it was, to everybody."""
    with StagedAirflow() as airflow:
        settings.AIRFLOW_URL = airflow.url
        gateway.pooled_client.cache_clear()
        error = {"import_error_id": 1, "filename": "etl.py", "timestamp": None, "bundle_name": None}
        airflow.import_errors = [error | {"stack_trace": f"OperationalError: {URL}"}]
        dags.sync_dags(DEFAULT, now=NOW)

    masked = "OperationalError: postgresql://etl:***@db.internal:5432/sales"
    event = Event.objects.get(type="dag.import_error")
    assert (event.data["error"], DagFileError.objects.get().error) == (masked, masked)
    assert office.ask("admin", "get", "/dags/etl").json()["import_error"] == masked
    config = NotificationConfig.objects.create(name="c", channel="webhook", owner=office.users["admin"])
    message = message_for(Delivery(config=config, event=event, kind=Kind.EVENT, created_at=NOW, due_at=NOW))
    assert SECRET not in f"{message}"
    assert message.excerpt == masked


@pytest.mark.parametrize("field", ["reason", "note"])
def test_an_event_quotes_no_password(office: Office, field: str) -> None:
    """Before: the reason of a failure went to streams, webhooks and mails as Airflow had put it."""
    run = new_run(office.mine)
    if field == "reason":
        data: events.EventData = events.WorkflowFailed(
            airflow=DEFAULT, state=RunState.FAILED, attempt=1, reason=URL, failed_tasks=[], duration_s=None
        )
    else:
        data = events.WorkflowRetried(airflow=DEFAULT, state=RunState.QUEUED, attempt=2, mode="all", note=URL, by="ada")

    with transaction.atomic():
        recorded = events.record(data, now=NOW, run=run)

    assert recorded.data[field] == "postgresql://etl:***@db.internal:5432/sales"


def test_a_run_shows_its_reason_without_the_password(office: Office) -> None:
    """Before: `state_reason` and `explain` quoted it. The parameters are the caller's own and are kept."""
    run = new_run(office.mine, RunState.FAILED, ended_at=NOW, state_reason=f"lost {URL}", parameters={"url": URL})

    path = f"/workflows/{office.mine.pk}/runs/{run.pk}"
    shown = office.ask("by id", "get", path).json()
    [reason] = office.ask("by id", "get", f"{path}/explain").json()["reasons"]

    assert shown["state_reason"] == "lost postgresql://etl:***@db.internal:5432/sales"
    assert shown["parameters"] == {"url": URL}
    assert reason["reason"] == "The run has ended: failed (lost postgresql://etl:***@db.internal:5432/sales)."


def test_an_error_answer_quotes_no_password(office: Office) -> None:
    """Before: a refusal of Airflow was quoted as it was, and so was a value that the schema refuses."""
    assert SECRET not in str(UnavailableError(f"Airflow does not answer: {URL}"))
    body = {"parameters": {"rows": URL}}

    refused = office.ask("by id", "post", f"/workflows/{office.mine.pk}/runs", body)

    assert refused.status_code == 400
    assert SECRET not in refused.content.decode()
    assert "etl:***@db.internal" in refused.content.decode()
    assert str(InvalidInputError({"x": ["y"]})) == "The request has invalid fields."


def test_an_outage_is_recorded_without_the_password(office: Office) -> None:
    """Before: `system.airflow_down` goes to everybody, with whatever the error said."""
    Airflow.objects.update(reachable=True, looked_at=None)

    gateway.record_down(DEFAULT, reason=f"no answer from {URL}", now=NOW)

    assert SECRET not in Airflow.default().last_error
    assert SECRET not in str(Event.objects.get(type="system.airflow_down").data)


@pytest.mark.parametrize("formatter", [JsonLines, TextLines])
def test_a_log_line_quotes_no_password(formatter: type[logging.Formatter]) -> None:
    """Before: only tickets in URLs were taken out. The public prefix of a key, an `extra` of its own, is kept."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(formatter())
    logger = logging.Logger("attack")  # noqa: LOG001 - no handlers of others
    logger.addHandler(handler)
    extra = {"error": ConnectionError(URL), "seen": [{"url": URL}], "api_key": "9f2c41d07ab3", "request_id": None}

    try:
        raise RuntimeError(URL)
    except RuntimeError:
        logger.exception("cannot reach %s", URL, extra=extra)

    assert SECRET not in written.getvalue()
    assert written.getvalue().count("etl:***@db.internal") >= 4
    assert "9f2c41d07ab3" in written.getvalue()
    if formatter is JsonLines:
        assert json.loads(written.getvalue())["message"] == "cannot reach postgresql://etl:***@db.internal:5432/sales"
