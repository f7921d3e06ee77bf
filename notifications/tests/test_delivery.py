"""What is owed is delivered, once in the ledger, on its schedule, and without waiting for somebody else's."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from notifications import delivery, rules, services, sinks
from notifications.models import Attempt, Delivery, NotificationConfig, Status
from notifications.outgoing import Answer
from notifications.tests import receiver as behaviours
from notifications.tests.conftest import MakeConfig, deliver, fail, make_due, start_run
from notifications.tests.receiver import Receiver
from workflows import events, outbox
from workflows.models import Event, Visibility, Workflow
from workflows.outbox import envelope

pytestmark = pytest.mark.django_db


def attempts(**chosen: Any) -> list[tuple[int, str, int | None, str]]:
    rows = Attempt.objects.filter(**chosen).order_by("delivery", "number")
    return list(rows.values_list("number", "outcome", "status_code", "error"))


# --- Owed -------------------------------------------------------------------------------------------------


def test_an_event_that_nobody_wants_costs_one_query(
    workflow: Workflow, make_config: MakeConfig, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    make_config(notification_types=["workflow_completed"])
    event = fail(start_run(workflow))

    with django_assert_num_queries(1):
        sinks.owe_deliveries(event)

    assert Delivery.objects.count() == 0


def test_an_event_is_owed_in_its_own_transaction_and_not_without_it(
    workflow: Workflow, make_config: MakeConfig
) -> None:
    make_config()
    run = start_run(workflow)

    with transaction.atomic():
        fail(run)
        within = Delivery.objects.count()
        transaction.set_rollback(True)

    assert (within, Delivery.objects.count()) == (1, 0)
    assert Event.objects.count() == 0


def test_an_event_that_comes_in_twice_is_owed_once(workflow: Workflow, make_config: MakeConfig) -> None:
    make_config()
    make_config(name="Folding", fold_repeats=True)
    event = fail(start_run(workflow))

    sinks.owe_deliveries(event)

    assert Delivery.objects.filter(event=event).count() == 2
    assert Delivery.objects.count() == 2


def test_a_disabled_config_gets_a_row_that_says_why_it_gets_nothing_else(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    services.disable(config=make_config(), reason="on holiday")

    fail(start_run(workflow))
    deliver()

    row = Delivery.objects.get()
    assert (row.status, row.reason) == ("suppressed", "the config was disabled: on holiday")
    assert receiver.received == []


# --- Delivered --------------------------------------------------------------------------------------------


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
def test_what_may_work_later_is_tried_later(
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

    assert (deliver(), deliver()) == (1, 0)
    row = Delivery.objects.get()
    assert (row.status, row.reason) == ("pending", error)
    assert timedelta(seconds=4) < row.due_at - timezone.now() < timedelta(seconds=6)
    make_due()
    assert deliver() == 1

    assert attempts() == [(1, "failed", status_code, error), (2, "delivered", 200, "")]
    assert Delivery.objects.get().status == "delivered"
    assert len({request.headers["webhook-id"] for request in receiver.received}) == 1


def test_a_receiver_that_says_nothing_is_left_after_the_timeout(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver, settings: Any
) -> None:
    settings.NOTIFICATION_TIMEOUT = 0.4
    make_config()
    receiver.otherwise = receiver.hang
    fail(start_run(workflow))

    assert deliver() == 1

    assert attempts() == [(1, "failed", None, "no complete answer within 0.4 s")]


def test_the_schedule_is_the_one_of_the_documentation() -> None:
    waits = [rules.next_try(tries, jitter=0) for tries in range(1, 8)]
    longest = [rules.next_try(tries, jitter=1) for tries in range(1, 3)]

    s, m, h = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
    assert waits == [5 * s, 5 * m, 30 * m, 2 * h, 5 * h, 10 * h, None]
    assert longest == [6 * s, 6 * m]


def test_what_the_receiver_asks_for_can_only_make_the_wait_longer() -> None:
    assert rules.next_try(1, jitter=0, retry_after=120) == timedelta(seconds=120)
    assert rules.next_try(2, jitter=0, retry_after=1) == timedelta(minutes=5)
    assert rules.next_try(1, jitter=0, retry_after=1e12) == timedelta(hours=24)
    assert rules.pause(1, jitter=0, retry_after=120) == timedelta(seconds=120)
    assert [rules.pause(n, jitter=0).total_seconds() for n in (1, 2, 3, 4, 5, 50)] == [5, 10, 20, 40, 60, 60]


def test_retry_after_is_honoured_for_the_delivery_and_for_all_that_is_owed_there(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    make_config()
    receiver.behaviours.append(behaviours.answer(429, retry_after="120"))
    fail(start_run(workflow))
    fail(start_run(workflow))

    assert deliver() == 1

    tried, waiting = Delivery.objects.order_by("id")
    config = NotificationConfig.objects.get(pk=tried.config_id)
    assert config.paused_until is not None
    assert tried.due_at - timezone.now() > timedelta(seconds=118)
    assert config.paused_until - timezone.now() > timedelta(seconds=118)
    assert (waiting.status, waiting.attempts_made) == ("pending", 0)
    assert len(receiver.received) == 1


def test_after_the_last_try_the_delivery_is_given_up_and_that_is_an_event(
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


def test_a_target_that_is_gone_disables_the_config_with_the_reason_and_an_event(
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


def test_others_hear_of_a_config_that_fails_and_the_failing_one_does_not(
    make_config: MakeConfig, receiver: Receiver, workflow: Workflow
) -> None:
    wanted = ["workflow_failed", "notification_failed"]
    make_config(name="Gone", notification_types=wanted, target=f"{receiver.url}/gone")
    make_config(name="Sound", notification_types=["notification_failed"])
    receiver.at["/gone"] = behaviours.answer(410)
    fail(start_run(workflow))

    deliver()
    deliver()

    assert [(r.path, json.loads(r.body)["type"]) for r in receiver.received] == [
        ("/gone", "workflow.failed"),
        ("/hook", "notification.failed"),
    ]


def test_a_bug_in_one_message_is_an_attempt_like_any_other(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    config = make_config()
    NotificationConfig.objects.filter(pk=config.pk).update(channel="no such channel")
    make_config(name="Sound")
    fail(start_run(workflow))

    assert deliver() == 2

    assert attempts(delivery__config=config) == [(1, "failed", None, "internal error: KeyError")]
    assert len(receiver.received) == 1


def test_a_target_sealed_with_a_key_that_is_lost_says_so(
    workflow: Workflow, make_config: MakeConfig, settings: Any
) -> None:
    make_config()
    settings.SECRET_KEYS = ["another key"]
    fail(start_run(workflow))

    deliver()

    reason = "It was encrypted with a key that is not among SECRET_KEYS any more."
    assert attempts() == [(1, "refused", None, reason)]


# --- Who may see it ---------------------------------------------------------------------------------------


def test_what_its_owner_may_not_see_any_more_when_it_is_to_be_sent_is_suppressed(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver, bob: User
) -> None:
    make_config(actor=bob)
    fail(start_run(workflow))
    Workflow.objects.filter(pk=workflow.pk).update(visibility=Visibility.PRIVATE)

    deliver()

    row = Delivery.objects.get()
    assert (row.status, row.reason) == ("suppressed", "when it was to be sent: its owner may not see the workflow")
    assert (attempts(), receiver.received) == ([], [])


def test_a_private_workflow_is_told_to_its_owner_admins_and_everyones_configs_alone(
    workflow: Workflow, make_config: MakeConfig, bob: User, root: User
) -> None:
    Workflow.objects.filter(pk=workflow.pk).update(visibility=Visibility.PRIVATE)
    make_config(name="ada's")
    make_config(name="bob's", actor=bob)
    make_config(name="root's", actor=root)
    make_config(name="everyone's", actor=root, for_everyone=True)

    fail(start_run(workflow))

    names = Delivery.objects.order_by("config__name").values_list("config__name", flat=True)
    assert list(names) == ["ada's", "everyone's", "root's"]


# --- Leases -----------------------------------------------------------------------------------------------


def test_of_two_claims_one_has_it(workflow: Workflow, make_config: MakeConfig) -> None:
    config = make_config()
    fail(start_run(workflow))
    outbox.publish()
    now = timezone.now()

    first = delivery.claim(config.pk, now=now, limit=5)
    second = delivery.claim(config.pk, now=now, limit=5)

    assert (len(first), len(second)) == (1, 0)


def test_a_lease_that_ran_out_is_taken_over_and_the_attempt_before_shows_as_lost(
    workflow: Workflow, make_config: MakeConfig, settings: Any
) -> None:
    config = make_config()
    fail(start_run(workflow))
    outbox.publish()
    now = timezone.now()
    (abandoned,) = delivery.claim(config.pk, now=now, limit=5)

    later = now + timedelta(seconds=settings.NOTIFICATION_LEASE + 1)
    (taken_over,) = delivery.claim(config.pk, now=later, limit=5)
    success = delivery.Result(duration=timedelta(0), answer=Answer(200, {}, ""))
    delivery.settle(taken_over, success, now=later, jitter=0)
    # The one that was thought dead comes back, with bad news about its own try.
    delivery.settle(abandoned, delivery.Result(duration=timedelta(0), error="HTTP 500"), now=later, jitter=0)

    row = Delivery.objects.get()
    assert (row.status, row.reason) == ("delivered", "")
    assert attempts() == [(1, "failed", None, "HTTP 500"), (2, "delivered", 200, "")]


def test_no_more_are_under_way_than_the_config_allows(workflow: Workflow, make_config: MakeConfig) -> None:
    config = make_config(max_in_flight=2)
    for _ in range(5):
        fail(start_run(workflow))
    outbox.publish()
    now = timezone.now()

    claimed = [len(delivery.claim(config.pk, now=now, limit=10)) for _ in range(2)]

    assert claimed == [2, 0]


# --- Isolation --------------------------------------------------------------------------------------------


def test_dead_receivers_with_much_owed_do_not_delay_a_sound_one(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver, settings: Any
) -> None:
    settings.NOTIFICATION_TIMEOUT = 3
    for number in range(5):
        make_config(name=f"Dead {number}", target=f"{receiver.url}/dead{number}")
        receiver.at[f"/dead{number}"] = receiver.hang
    sound = make_config(name="Sound")
    for _ in range(20):
        fail(start_run(workflow))
    started = time.monotonic()

    deliver()

    told = Attempt.objects.filter(delivery__config=sound, outcome="delivered").order_by("started_at")
    assert told.count() == 20
    last = told.last()
    assert last is not None
    # All of them within the time that the first try at a dead one takes.
    assert last.started_at - told[0].started_at < timedelta(seconds=3)
    assert time.monotonic() - started < 10
    dead = Attempt.objects.exclude(delivery__config=sound)
    assert (dead.count(), set(dead.values_list("outcome", flat=True))) == (5, {"failed"})


def test_one_that_fails_is_asked_once_and_gains_by_answering(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    config = make_config()
    receiver.behaviours.append(behaviours.answer(500))
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


# --- Redelivery -------------------------------------------------------------------------------------------


def test_a_redelivery_has_the_same_id_and_a_schedule_of_its_own(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    make_config()
    fail(start_run(workflow))
    deliver()

    services.redeliver(delivery=Delivery.objects.get())
    with pytest.raises(services.StillOwedError):
        services.redeliver(delivery=Delivery.objects.get())
    deliver()

    assert len({request.headers["webhook-id"] for request in receiver.received}) == 1
    assert len(receiver.received) == 2
    assert attempts() == [(1, "delivered", 200, ""), (2, "delivered", 200, "")]
    assert Delivery.objects.get().tries == 1


def test_a_range_is_redelivered_by_time_and_status(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    config = make_config()
    receiver.otherwise = behaviours.answer(410)
    for _ in range(3):
        fail(start_run(workflow))
    deliver()
    services.enable(config=config)
    receiver.otherwise = behaviours.answer(200)
    now = timezone.now()

    def again(since: timedelta, *statuses: str) -> int:
        return services.redeliver_range(config=config, since=now - since, until=now, statuses=statuses)

    assert again(timedelta(0), "failed", "suppressed") == 0
    assert again(timedelta(hours=1), "failed") == 1
    assert again(timedelta(hours=1), "failed", "suppressed") == 2
    deliver()

    assert Delivery.objects.filter(status="delivered").count() == 3


def test_events_that_concern_no_workflow_are_told_to_those_whom_they_concern(
    make_config: MakeConfig, ada: User, bob: User
) -> None:
    make_config(name="ada's", notification_types=["system_airflow_down", "notification_failed"])
    make_config(name="bob's", actor=bob, notification_types=["system_airflow_down", "notification_failed"])
    failed = events.NotificationFailed(config_id=0, name="x", reason="y", disabled=False)

    with transaction.atomic():
        events.record(events.AirflowDown(reason="refused"), now=timezone.now())
        events.record(failed, now=timezone.now(), user=bob)

    owed = Delivery.objects.order_by("event", "config__name").values_list("event__type", "config__name")
    assert list(owed) == [
        ("system.airflow_down", "ada's"),
        ("system.airflow_down", "bob's"),
        ("notification.failed", "bob's"),
    ]
