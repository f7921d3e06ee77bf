"""Slack's incoming webhooks: Block Kit within its limits, and its own words for "gone"."""

from __future__ import annotations

import json
from typing import Any

import pytest

from notifications.models import Delivery, NotificationConfig
from notifications.tests import receiver as behaviours
from notifications.tests.conftest import MakeConfig, complete, deliver, fail, make_due, start_run
from notifications.tests.receiver import Receiver
from notifications.transports.base import Message
from notifications.transports.slack import render
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


def test_names_can_neither_mention_nor_link_nor_break_out_of_the_log() -> None:
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


def test_a_message_that_slack_can_not_read_is_given_up_and_the_config_stays(
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


def test_rate_limits_are_waited_out(workflow: Workflow, slack: NotificationConfig, receiver: Receiver) -> None:
    receiver.behaviours.append(behaviours.answer(429, b"rate_limited", retry_after="30"))
    fail(start_run(workflow))

    deliver()

    slack.refresh_from_db()
    assert slack.enabled
    delivery = Delivery.objects.filter(config=slack).get()
    assert delivery.status == "pending"
    assert (delivery.due_at - delivery.created_at).total_seconds() > 29
