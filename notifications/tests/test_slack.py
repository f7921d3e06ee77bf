"""Slack's incoming webhooks: Block Kit within its limits, and Slack's words for "gone"."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from notifications.models import Delivery, NotificationConfig
from notifications.tests import receiver as behaviours
from notifications.tests.conftest import MakeConfig, complete, deliver, fail, make_due, start_run
from notifications.tests.receiver import Receiver
from notifications.transports.base import Message
from notifications.transports.slack import render
from workflows.eventlog import events
from workflows.models import Run, Workflow

pytestmark = pytest.mark.django_db


@pytest.fixture
def slack(make_config: MakeConfig) -> NotificationConfig:
    return make_config(channel="slack", notification_types=["workflow_failed", "workflow_completed"])


def test_a_failure_is_shown_with_run_state_duration_failed_tasks_reason_and_buttons(
    workflow: Workflow, slack: NotificationConfig, receiver: Receiver, settings: Any
) -> None:
    settings.PUBLIC_URL = "https://svops.example.com"
    run = start_run(workflow)
    event = fail(run, "extract", "load", duration_s=75.2)

    deliver()

    (request,) = receiver.received
    header, facts, excerpt, buttons = json.loads(request.body)["blocks"]
    assert header == {
        "type": "header",
        "text": {"type": "plain_text", "text": "🔴 Nightly figures has failed", "emoji": True},
    }
    assert [field["text"] for field in facts["fields"]] == [
        "*Workflow*\nNightly figures",
        f"*Run*\n{run.pk}",
        "*State*\nfailed",
        "*Duration*\n0:01:15",
        "*Failed tasks*\nextract, load",
        "*Started by*\nada",
        f"*At*\n{event.timestamp:%Y-%m-%d %H:%M:%S} UTC",
    ]
    assert excerpt["text"] == {"type": "mrkdwn", "text": "```exit 1```"}
    assert [(button["text"]["text"], button["url"]) for button in buttons["elements"]] == [
        ("Open the run", f"https://svops.example.com/#/workflows/{workflow.pk}/runs/{run.pk}"),
        ("Open the workflow", f"https://svops.example.com/#/workflows/{workflow.pk}"),
    ]


def test_a_success_looks_like_one(workflow: Workflow, slack: NotificationConfig, receiver: Receiver) -> None:
    complete(start_run(workflow))

    deliver()

    assert json.loads(receiver.received[0].body)["text"] == "✅ Nightly figures has completed"


def test_a_question_is_shown_with_its_options_and_who_may_answer_and_then_the_answer(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    make_config(channel="slack", notification_types=["task_awaiting_input", "task_input_received"])
    run = start_run(workflow)
    asked: dict[str, Any] = {"state": "awaiting_input", "map_index": -1, "try_number": 1}
    question: dict[str, Any] = {"subject": "May it go on?", "body": "Look first.", "options": ["Yes", "No"]}
    more: dict[str, Any] = {"defaults": [], "multiple": False, "params": {}, "respondents": ["ada", "bob"]}
    with transaction.atomic():
        waits = events.TaskAwaitingInput(**asked, **question, **more)
        events.record(waits, now=timezone.now(), run=run, task_id="approve")
        answer = events.TaskInputReceived(**asked, chosen=["Yes"], params={}, by="bob")
        events.record(answer, now=timezone.now(), run=run, task_id="approve")

    deliver()

    first, second = [json.loads(request.body)["blocks"] for request in receiver.received]
    assert first[0]["text"]["text"] == "\N{INFORMATION SOURCE} Nightly figures: approve waits for a person"
    texts = [field["text"] for field in first[1]["fields"]]
    assert texts[2:7] == [
        "*Task*\napprove",
        "*State*\nawaiting_input",
        "*Question*\nMay it go on?",
        "*Options*\nYes, No",
        "*May answer*\nada, bob",
    ]
    assert first[2]["text"]["text"] == "```Look first.```"
    assert second[0]["text"]["text"] == "\N{INFORMATION SOURCE} Nightly figures: approve was answered"
    assert [field["text"] for field in second[1]["fields"]][4:6] == ["*Answer*\nYes", "*Answered by*\nbob"]


def test_names_cannot_mention_link_or_break_out_of_the_log() -> None:
    message = Message(
        id="msg_1",
        body={},
        title="<!channel> & co",
        facts=(("Workflow", "<http://evil.example|click>"),),
        excerpt="```<@U1>",
    )

    shown = render(message)

    assert shown["text"] == "\N{INFORMATION SOURCE} &lt;!channel&gt; &amp; co"
    assert shown["blocks"][1]["fields"][0]["text"] == "*Workflow*\n&lt;http://evil.example|click&gt;"
    assert shown["blocks"][2]["text"]["text"] == "```'''&lt;@U1&gt;```"


def test_the_limits_of_slack_are_kept() -> None:
    facts = tuple((f"Fact {number}", "v" * 3000) for number in range(30))
    links = tuple((f"Link {number}" + "x" * 100, "https://example.com") for number in range(30))
    message = Message(id="msg_1", body={}, title="t" * 5000, facts=facts, excerpt="<" * 9000, links=links)

    shown = render(message)

    header, section, excerpt, buttons = shown["blocks"]
    assert len(header["text"]["text"]) == 150
    assert len(section["fields"]) == 10
    assert {len(field["text"]) for field in section["fields"]} == {2000}
    assert len(excerpt["text"]["text"]) <= 3000
    assert len(buttons["elements"]) == 5
    assert {len(button["text"]["text"]) for button in buttons["elements"]} == {75}


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, b"no_service"), (410, b"channel_is_archived"), (403, b"action_prohibited"), (400, b"no_team")],
)
def test_a_hook_that_is_gone_disables_the_config(
    workflow: Workflow, slack: NotificationConfig, receiver: Receiver, status: int, body: bytes
) -> None:
    receiver.otherwise = behaviours.answer(status, body)
    fail(start_run(workflow))

    deliver()

    slack.refresh_from_db()
    assert (slack.enabled, slack.disabled_reason) == (False, f"its target is gone: HTTP {status}")
    assert Delivery.objects.filter(config=slack).get().attempts.get().response_excerpt == body.decode()


def test_a_message_that_slack_cannot_read_is_given_up_and_the_config_stays_enabled(
    workflow: Workflow, slack: NotificationConfig, receiver: Receiver
) -> None:
    receiver.behaviours.append(behaviours.answer(400, b"invalid_blocks"))
    fail(start_run(workflow))
    fail(Run.objects.get(), "another task")

    deliver()
    make_due(config=slack, status="pending")
    deliver()

    slack.refresh_from_db()
    assert slack.enabled
    assert [d.status for d in Delivery.objects.filter(config=slack).order_by("id")] == ["failed", "delivered"]


@pytest.mark.parametrize(
    ("status", "body", "result", "error"),
    [
        (200, b"ok", "delivered", ""),
        (200, b"ok\n", "delivered", ""),
        (200, b'{"ok": true}', "delivered", ""),
        (200, b'{"success": true}', "delivered", ""),
        (200, b'{"ok": false}', "pending", "HTTP 200: the answer does not say that the message was accepted"),
        (200, b"[true]", "pending", "HTTP 200: the answer does not say that the message was accepted"),
        (200, b"", "pending", "HTTP 200: the answer does not say that the message was accepted"),
        (204, b"", "pending", "HTTP 204: the answer does not say that the message was accepted"),
        (200, b"<html>Sign in", "pending", "HTTP 200: the answer does not say that the message was accepted"),
        (200, b"no_text", "failed", "HTTP 200: the answer does not say that the message was accepted"),
        (103, b"", "pending", "HTTP 103: no final answer"),
        (302, b"ok", "pending", "HTTP 302: redirects are not followed"),
        (400, b"ok", "failed", "HTTP 400"),
        (408, b"ok", "pending", "HTTP 408"),
        (500, b"ok", "pending", "HTTP 500"),
        (503, b"ok", "pending", "HTTP 503"),
    ],
)
def test_only_the_ok_of_slack_is_an_acceptance(
    workflow: Workflow, slack: NotificationConfig, receiver: Receiver, status: int, body: bytes, result: str, error: str
) -> None:
    receiver.otherwise = behaviours.answer(status, body)
    fail(start_run(workflow))

    deliver()

    slack.refresh_from_db()
    row = Delivery.objects.filter(config=slack).get()
    assert (row.status, row.attempts.get().error, slack.enabled) == (result, error, True)


def test_a_hook_that_says_with_200_that_it_is_gone_disables_the_config(
    workflow: Workflow, slack: NotificationConfig, receiver: Receiver
) -> None:
    receiver.otherwise = behaviours.answer(200, b"no_service")
    fail(start_run(workflow))

    deliver()

    slack.refresh_from_db()
    assert not slack.enabled


def test_a_rate_limit_delays_the_delivery(workflow: Workflow, slack: NotificationConfig, receiver: Receiver) -> None:
    receiver.behaviours.append(behaviours.answer(429, b"rate_limited", retry_after="30"))
    fail(start_run(workflow))

    deliver()

    slack.refresh_from_db()
    assert slack.enabled
    delivery = Delivery.objects.filter(config=slack).get()
    assert delivery.status == "pending"
    assert (delivery.due_at - delivery.created_at).total_seconds() >= 30
