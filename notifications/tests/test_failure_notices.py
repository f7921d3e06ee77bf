"""The notices that a config fails: other configs get them, and they never cause each other without end."""

from __future__ import annotations

import json

import pytest

from notifications.models import Delivery
from notifications.tests import receiver as behaviours
from notifications.tests.conftest import MakeConfig, deliver, fail, make_due, start_run
from notifications.tests.receiver import Behaviour, Receiver
from workflows.models import Event, Workflow

pytestmark = pytest.mark.django_db

MOST_ROUNDS = 30  # two deliveries, one after the other, take seven tries each


def test_other_configs_are_notified_of_a_failing_config_and_the_failing_one_is_not(
    make_config: MakeConfig, receiver: Receiver, workflow: Workflow
) -> None:
    types = ["workflow_failed", "notification_failed"]
    make_config(name="Gone", notification_types=types, target=f"{receiver.url}/gone")
    make_config(name="Healthy", notification_types=["notification_failed"])
    receiver.at["/gone"] = behaviours.answer(410)
    fail(start_run(workflow))

    deliver()
    deliver()

    assert [(r.path, json.loads(r.body)["type"]) for r in receiver.received] == [
        ("/gone", "workflow.failed"),
        ("/hook", "notification.failed"),
    ]


def deliver_to_the_end() -> None:
    """Deliver, as time passes, until no delivery is pending."""
    for _ in range(MOST_ROUNDS):
        make_due()
        deliver()
        if not Delivery.objects.filter(status="pending").exists():
            return
    pytest.fail(
        f"{Delivery.objects.filter(status='pending').count()} deliveries are pending after {MOST_ROUNDS} rounds"
    )


@pytest.mark.parametrize(
    ("channel", "behaviour", "reason", "tries"),
    [
        ("webhook", behaviours.answer(503), "given up after 7 tries: HTTP 503", 7),
        ("webhook", behaviours.half_close, "given up after 7 tries: no answer: RemoteDisconnected", 7),
        ("slack", behaviours.answer(400, b"invalid_blocks"), "HTTP 400", 1),
    ],
)
def test_two_dead_configs_do_not_report_each_others_failures_without_end(
    make_config: MakeConfig,
    receiver: Receiver,
    workflow: Workflow,
    channel: str,
    behaviour: Behaviour,
    reason: str,
    tries: int,
) -> None:
    receiver.otherwise = behaviour
    configs = [
        make_config(name=name, channel=channel, notification_types=["workflow_failed", "notification_failed"])
        for name in ("A", "B")
    ]
    fail(start_run(workflow))

    deliver_to_the_end()

    notices = Event.objects.filter(type="notification.failed").order_by("data__name")
    assert [notice.data for notice in notices] == [
        {"config_id": config.pk, "name": config.name, "reason": reason, "disabled": False} for config in configs
    ]
    rows = Delivery.objects.order_by("event__type", "config__name")
    assert list(rows.values_list("event__type", "config__name", "status", "attempts_made")) == [
        ("notification.failed", "A", "failed", tries),
        ("notification.failed", "B", "failed", tries),
        ("workflow.failed", "A", "failed", tries),
        ("workflow.failed", "B", "failed", tries),
    ]
    assert len(receiver.received) == 4 * tries


def test_two_configs_whose_targets_are_gone_are_each_disabled_and_reported_once(
    make_config: MakeConfig, receiver: Receiver, workflow: Workflow
) -> None:
    receiver.otherwise = behaviours.answer(410)
    configs = [make_config(name=name, notification_types=["workflow_failed", "notification_failed"]) for name in "AB"]
    fail(start_run(workflow))

    deliver_to_the_end()

    notices = Event.objects.filter(type="notification.failed").order_by("data__name")
    reason = "its target is gone: HTTP 410"
    assert [notice.data for notice in notices] == [
        {"config_id": config.pk, "name": config.name, "reason": reason, "disabled": True} for config in configs
    ]
    assert not Delivery.objects.exclude(status__in=["failed", "suppressed"]).exists()
