"""Webhooks that the official library of Standard Webhooks has signed."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest
from standardwebhooks import Webhook as Signer

from svops_client import WebhookError, verify_webhook
from svops_client.events import WorkflowFailed

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
NOW = 1_772_452_800
EVENT: dict[str, Any] = {
    "id": 4711, "seq": 5, "type": "workflow.failed", "workflow_id": 3, "run_id": "0b7c8a1e-6a0c-4a53-9d2c-0c6f6c1e2f10",
    "task_id": None, "user_id": 7, "timestamp": "2026-03-02T12:00:00.123Z",
    "data": {"state": "failed", "attempt": 1, "airflow": "default", "reason": "failed in Airflow: load",
             "failed_tasks": ["load"], "duration_s": 75.2},
}  # fmt: skip


def signed(body: str, *secrets: str) -> dict[str, str]:
    at = datetime.fromtimestamp(NOW, tz=timezone.utc)
    signatures = " ".join(Signer(secret).sign("msg_1", at, body) for secret in secrets)
    return {"Webhook-Id": "msg_1", "Webhook-Timestamp": str(NOW), "Webhook-Signature": signatures}


def test_a_genuine_message_is_an_event() -> None:
    body = json.dumps(EVENT | {"digest": {"count": 3, "since": "2026-03-02T11:00:00Z"}})

    message = verify_webhook(body.encode(), signed(body, SECRET), SECRET, now=NOW)

    assert isinstance(message.event, WorkflowFailed)
    assert message.event.data.failed_tasks == ["load"]
    assert (message.id, message.type, message.digest) == (
        "msg_1",
        "workflow.failed",
        {"count": 3, "since": "2026-03-02T11:00:00Z"},
    )


def test_while_a_secret_is_replaced_both_are_good() -> None:
    body = json.dumps(EVENT)

    assert verify_webhook(body, signed(body, SECRET, OLD_SECRET), OLD_SECRET, now=NOW).event
    assert verify_webhook(body, signed(body, SECRET), [OLD_SECRET, SECRET], now=NOW).event


def test_a_test_message_has_no_event() -> None:
    body = json.dumps(EVENT | {"id": None, "seq": None, "type": "notification.test"})

    message = verify_webhook(body, signed(body, SECRET), SECRET, now=NOW)

    assert (message.type, message.event) == ("notification.test", None)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"body": "{}"}, "The signature is wrong"),
        ({"secret": OLD_SECRET}, "The signature is wrong"),
        ({"now": NOW + 301}, "too old"),
        ({"now": NOW - 301}, "too old"),
        ({"secret": "whsec_é"}, "not `whsec_` and base64"),
        ({"headers": {}}, "webhook-id is missing"),
    ],
)
def test_anything_else_is_refused(change: dict[str, Any], problem: str) -> None:
    body = json.dumps(EVENT)
    given: dict[str, Any] = {"body": body, "headers": signed(body, SECRET), "secret": SECRET, "now": NOW} | change

    with pytest.raises(WebhookError, match=problem):
        verify_webhook(given.pop("body"), given.pop("headers"), given.pop("secret"), **given)
