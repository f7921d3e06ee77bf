"""An event becomes one delivery for each config that it concerns, in its own transaction."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from notifications import services, sinks
from notifications.models import Delivery
from notifications.tests.conftest import MakeConfig, attempts, deliver, fail, start_run
from notifications.tests.receiver import Receiver
from workflows.eventlog import events
from workflows.models import Event, Visibility, Workflow
from workflows.naming import DEFAULT

pytestmark = pytest.mark.django_db


def test_an_event_without_subscribers_costs_one_query(
    workflow: Workflow, make_config: MakeConfig, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    make_config(notification_types=["workflow_completed"])
    event = fail(start_run(workflow))

    with django_assert_num_queries(1):
        sinks.create_deliveries([event])

    assert Delivery.objects.count() == 0


def test_a_delivery_commits_or_rolls_back_with_its_event(workflow: Workflow, make_config: MakeConfig) -> None:
    make_config()
    run = start_run(workflow)

    with transaction.atomic():
        fail(run)
        within = Delivery.objects.count()
        transaction.set_rollback(True)

    assert (within, Delivery.objects.count()) == (1, 0)
    assert Event.objects.count() == 0


def test_an_event_that_comes_in_twice_is_delivered_once(workflow: Workflow, make_config: MakeConfig) -> None:
    make_config()
    make_config(name="Folding", fold_repeats=True)
    event = fail(start_run(workflow))

    sinks.create_deliveries([event])

    assert Delivery.objects.filter(event=event).count() == 2
    assert Delivery.objects.count() == 2


def test_a_disabled_config_gets_a_row_that_says_why_nothing_is_sent(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    services.disable(config=make_config(), reason="on holiday")

    fail(start_run(workflow))
    deliver()

    row = Delivery.objects.get()
    assert (row.status, row.reason) == ("suppressed", "the config was disabled: on holiday")
    assert receiver.received == []


def test_an_event_that_the_owner_can_no_longer_see_is_suppressed_when_it_is_due(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver, bob: User
) -> None:
    make_config(actor=bob)
    fail(start_run(workflow))
    Workflow.objects.filter(pk=workflow.pk).update(visibility=Visibility.PRIVATE)

    deliver()

    row = Delivery.objects.get()
    assert (row.status, row.reason) == ("suppressed", "when it was due: its owner cannot see the workflow")
    assert (attempts(), receiver.received) == ([], [])


def test_a_private_workflow_is_reported_only_to_its_owner_admins_and_configs_for_everyone(
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


def test_events_without_a_workflow_are_reported_to_the_users_they_concern(
    make_config: MakeConfig, ada: User, bob: User
) -> None:
    make_config(name="ada's", notification_types=["system_airflow_down", "notification_failed"])
    make_config(name="bob's", actor=bob, notification_types=["system_airflow_down", "notification_failed"])
    failed = events.NotificationFailed(config_id=0, name="x", reason="y", disabled=False)

    with transaction.atomic():
        events.record(events.AirflowDown(airflow=DEFAULT, reason="refused"), now=timezone.now())
        events.record(failed, now=timezone.now(), user=bob)

    rows = Delivery.objects.order_by("event", "config__name").values_list("event__type", "config__name")
    assert list(rows) == [
        ("system.airflow_down", "ada's"),
        ("system.airflow_down", "bob's"),
        ("notification.failed", "bob's"),
    ]
