"""Each delivery is made on its schedule, and does not wait for those of others."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from notifications.models import Attempt, Delivery, NotificationConfig, Status
from notifications.tests import receiver as behaviours
from notifications.tests.conftest import MakeConfig, attempts, deliver, fail, make_due, start_run
from notifications.tests.receiver import Receiver
from workflows.eventlog.publication import envelope
from workflows.models import Event, Workflow

pytestmark = pytest.mark.django_db


def test_the_body_is_the_envelope_of_the_published_event(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    make_config()
    event = fail(start_run(workflow))

    assert deliver() == 1

    event.refresh_from_db()
    sent = json.loads(receiver.received[0].body)
    expected = {**envelope(event), "run_id": str(event.run_id), "timestamp": sent["timestamp"]}
    assert sent == expected
    assert sent["id"] == event.position is not None
    row = Delivery.objects.get()
    assert (row.status, row.reason, row.attempts_made) == ("delivered", "", 1)
    assert row.finished_at is not None
    assert receiver.received[0].headers["webhook-id"] == row.message_id
    attempt = row.attempts.get()
    assert (attempt.outcome, attempt.status_code, attempt.response_excerpt) == ("delivered", 200, "ok")


@pytest.mark.parametrize(
    ("behaviour", "error", "status_code"),
    [
        (behaviours.answer(500, b"broken"), "HTTP 500", 500),
        (behaviours.answer(404), "HTTP 404", 404),
        (behaviours.answer(302, location="http://127.0.0.1:1/"), "HTTP 302: redirects are not followed", 302),
        (behaviours.half_close, "no answer: RemoteDisconnected", None),
        (behaviours.garbage, "no answer: BadStatusLine", None),
    ],
)
def test_a_failure_that_may_pass_is_retried_later(
    workflow: Workflow,
    make_config: MakeConfig,
    receiver: Receiver,
    behaviour: behaviours.Behaviour,
    error: str,
    status_code: int | None,
) -> None:
    make_config()
    receiver.behaviours.append(behaviour)
    fail(start_run(workflow))
    before = timezone.now()

    assert deliver() == 1
    row = Delivery.objects.get()
    assert (row.status, row.reason) == ("pending", error)
    assert before + timedelta(seconds=5) <= row.due_at <= timezone.now() + timedelta(seconds=6)
    assert not Delivery.objects.claimable(row.due_at - timedelta.resolution).exists()
    make_due()
    assert deliver() == 1

    assert attempts() == [(1, "failed", status_code, error), (2, "delivered", 200, "")]
    assert Delivery.objects.get().status == "delivered"
    assert len({request.headers["webhook-id"] for request in receiver.received}) == 1


def test_a_receiver_that_does_not_answer_is_given_up_after_the_timeout(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver, settings: Any
) -> None:
    settings.NOTIFICATION_TIMEOUT = 0.4
    make_config()
    receiver.otherwise = receiver.hang
    fail(start_run(workflow))

    assert deliver() == 1

    assert attempts() == [(1, "failed", None, "no complete answer within 0.4 s")]


def test_retry_after_delays_the_delivery_and_all_others_of_the_config(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    make_config()
    receiver.behaviours.append(behaviours.answer(429, retry_after="120"))
    fail(start_run(workflow))
    fail(start_run(workflow))
    before = timezone.now()

    assert deliver() == 1

    tried, waiting = Delivery.objects.order_by("id")
    config = NotificationConfig.objects.get(pk=tried.config_id)
    assert config.paused_until is not None
    earliest, latest = before + timedelta(seconds=120), timezone.now() + timedelta(seconds=120)
    assert earliest <= tried.due_at <= latest
    assert earliest <= config.paused_until <= latest
    assert (waiting.status, waiting.attempts_made) == ("pending", 0)
    assert len(receiver.received) == 1


def test_after_the_last_try_the_delivery_is_given_up_and_an_event_says_so(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver, ada: User
) -> None:
    config = make_config()
    receiver.otherwise = behaviours.answer(503)
    fail(start_run(workflow))

    for _ in range(10):
        make_due()
        deliver()

    row = Delivery.objects.get()
    assert (row.status, row.reason, row.attempts_made) == ("failed", "given up after 7 tries: HTTP 503", 7)
    assert len(receiver.received) == 7
    event = Event.objects.get(type="notification.failed")
    reason = "given up after 7 tries: HTTP 503"
    assert event.data == {"config_id": config.pk, "name": "On call", "reason": reason, "disabled": False}
    assert event.user_id == ada.pk
    config.refresh_from_db()
    assert config.enabled


def test_a_target_that_is_gone_disables_the_config_and_an_event_says_why(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    config = make_config()
    receiver.otherwise = behaviours.answer(410)
    fail(start_run(workflow))
    fail(start_run(workflow))

    assert deliver() == 1

    config.refresh_from_db()
    assert (config.enabled, config.disabled_reason) == (False, "its target is gone: HTTP 410")
    assert list(Delivery.objects.order_by("id").values_list("status", "reason")) == [
        ("failed", "HTTP 410"),
        ("suppressed", "the config was disabled: its target is gone: HTTP 410"),
    ]
    assert attempts() == [(1, "refused", 410, "HTTP 410")]
    assert Event.objects.get(type="notification.failed").data["disabled"] is True


def test_a_bug_in_one_message_is_a_failed_attempt_and_does_not_stop_the_others(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    config = make_config()
    NotificationConfig.objects.filter(pk=config.pk).update(channel="no such channel")
    make_config(name="Healthy")
    fail(start_run(workflow))

    assert deliver() == 2

    assert attempts(delivery__config=config) == [(1, "failed", None, "internal error: KeyError")]
    assert len(receiver.received) == 1


def test_a_target_encrypted_with_a_lost_key_is_refused_with_that_reason(
    workflow: Workflow, make_config: MakeConfig, settings: Any
) -> None:
    make_config()
    settings.SECRET_KEYS = ["another key"]
    fail(start_run(workflow))

    deliver()

    reason = "It was encrypted with a key that is no longer among SECRET_KEYS."
    assert attempts() == [(1, "refused", None, reason)]


def test_dead_receivers_with_many_deliveries_do_not_delay_a_healthy_one(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver, settings: Any
) -> None:
    settings.NOTIFICATION_SLOTS, settings.NOTIFICATION_TIMEOUT = 8, 2 * behaviours.DEADLINE
    dead_paths = [f"/dead{number}" for number in range(5)]
    for path in dead_paths:
        make_config(name=f"Dead {path}", target=receiver.url + path)
        # The first try at a dead receiver lasts until the healthy one has everything.
        receiver.at[path] = receiver.answer_once(lambda paths: paths["/hook"] == 20, 503)
    receiver.at["/hook"] = receiver.answer_once(lambda paths: all(paths[path] for path in dead_paths), 200)
    healthy = make_config(name="Healthy")
    for _ in range(20):
        fail(start_run(workflow))

    deliver()

    assert Attempt.objects.filter(delivery__config=healthy, outcome="delivered").count() == 20
    dead = Attempt.objects.filter(delivery__config__name__startswith="Dead")
    assert {attempt.status_code for attempt in dead} == {503}
    paths = [request.path for request in receiver.received]
    meanwhile = Counter(paths[: len(paths) - paths[::-1].index("/hook")])
    assert meanwhile == {"/hook": 20, **dict.fromkeys(dead_paths, 1)}


def test_a_failing_receiver_gets_one_attempt_and_more_after_a_success(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    config = make_config()
    receiver.behaviours.append(behaviours.answer(500, retry_after="600"))
    for _ in range(10):
        fail(start_run(workflow))

    assert deliver() == 1
    config.refresh_from_db()
    assert (config.failures, config.paused_until is None) == (1, False)
    make_due()
    assert deliver() == 10

    config.refresh_from_db()
    assert (config.failures, config.paused_until) == (0, None)
    assert Delivery.objects.filter(status=Status.DELIVERED).count() == 10
