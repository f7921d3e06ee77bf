"""The first failure is sent at once, repeats become a digest, the recovery is reported; all have a row."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from notifications import claims, services
from notifications.models import Delivery, Episode, NotificationConfig
from notifications.tests.conftest import MakeConfig, complete, deliver, fail, make_due, start_run
from notifications.tests.receiver import Receiver
from workflows.eventlog import publication
from workflows.models import Visibility, Workflow

pytestmark = pytest.mark.django_db


@pytest.fixture
def folding(make_config: MakeConfig) -> NotificationConfig:
    return make_config(fold_repeats=True)


def rows() -> list[tuple[str, str]]:
    return list(Delivery.objects.order_by("id").values_list("kind", "status"))


def bodies(receiver: Receiver) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in receiver.received]


def test_repeats_of_a_failure_are_counted_in_one_digest(
    workflow: Workflow, folding: NotificationConfig, receiver: Receiver
) -> None:
    for _ in range(4):
        fail(start_run(workflow), "load")
    deliver()
    sent_at_once = len(receiver.received)

    make_due(kind="digest")
    deliver()

    assert sent_at_once == 1
    assert sorted(rows()) == [
        ("digest", "delivered"),
        ("event", "delivered"),
        ("event", "folded"),
        ("event", "folded"),
        ("event", "folded"),
    ]
    assert bodies(receiver)[1]["digest"]["count"] == 3
    digest = Delivery.objects.get(kind="digest")
    assert digest.folded.count() == digest.folded_count == 3
    assert digest.due_at - digest.created_at <= timedelta(hours=1)


def test_another_task_that_fails_is_another_alert(
    workflow: Workflow, folding: NotificationConfig, receiver: Receiver
) -> None:
    fail(start_run(workflow), "load")
    fail(start_run(workflow), "extract")

    deliver()

    assert [body["data"]["failed_tasks"] for body in bodies(receiver)] == [["load"], ["extract"]]


def test_a_claimed_digest_takes_no_more_and_the_next_repeat_begins_another(
    workflow: Workflow, folding: NotificationConfig
) -> None:
    for _ in range(2):
        fail(start_run(workflow), "load")
    make_due(kind="digest")
    publication.publish()
    digest = Delivery.objects.get(kind="digest")
    claims.claim(folding.pk, now=timezone.now(), limit=1, only=digest.pk)

    fail(start_run(workflow), "load")

    assert list(Delivery.objects.filter(kind="digest").order_by("id").values_list("folded_count", flat=True)) == [1, 1]


def test_the_end_of_a_failure_is_reported_with_the_count_even_to_a_config_for_failures_only(
    workflow: Workflow, folding: NotificationConfig, receiver: Receiver
) -> None:
    for _ in range(3):
        fail(start_run(workflow), "load")
    complete(start_run(workflow))
    complete(start_run(workflow))

    deliver()

    assert [body["type"] for body in bodies(receiver)] == ["workflow.failed", "workflow.completed"]
    assert bodies(receiver)[1]["recovery"] == {"failures": 3}
    digest = Delivery.objects.get(kind="digest")
    assert (digest.status, digest.reason) == (
        "suppressed",
        "the workflow succeeded: that message has the count",
    )
    assert Episode.objects.get().closed_at is not None
    fail(start_run(workflow), "load")
    deliver()
    assert len(receiver.received) == 3


def test_a_config_that_does_not_fold_gets_every_failure_and_no_recovery(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    make_config()
    for _ in range(3):
        fail(start_run(workflow), "load")
    complete(start_run(workflow))

    deliver()

    assert [body["type"] for body in bodies(receiver)] == ["workflow.failed"] * 3


def test_a_digest_is_not_sent_to_an_owner_who_can_no_longer_see_the_workflow(
    workflow: Workflow, make_config: MakeConfig, bob: Any, receiver: Receiver
) -> None:
    make_config(actor=bob, fold_repeats=True)
    for _ in range(2):
        fail(start_run(workflow), "load")
    deliver()
    Workflow.objects.filter(pk=workflow.pk).update(visibility=Visibility.PRIVATE)

    make_due(kind="digest")
    deliver()

    assert len(receiver.received) == 1
    assert Delivery.objects.get(kind="digest").status == "suppressed"


def test_a_failure_in_quiet_hours_is_held_and_sent_after_them(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    now = timezone.now()
    make_config(quiet_from=(now - timedelta(hours=1)).time(), quiet_until=(now + timedelta(hours=1)).time())
    fail(start_run(workflow))

    deliver()

    row = Delivery.objects.get()
    assert (row.status, row.reason) == ("held", "held until the end of the quiet hours")
    assert row.due_at == now + timedelta(hours=1)
    assert receiver.received == []
    make_due()
    deliver()
    assert [body["type"] for body in bodies(receiver)] == ["workflow.failed"]
    assert Delivery.objects.get().status == "delivered"


# --- The alert path watches itself ------------------------------------------------------------------------


def test_the_canary_goes_the_same_way_as_every_delivery() -> None:
    assert services.canary_arrived_at() is None
    before = timezone.now()

    assert services.create_canaries(now=timezone.now()) == 1
    assert services.create_canaries(now=timezone.now()) == 0
    deliver()

    assert rows() == [("canary", "delivered")]
    arrived = services.canary_arrived_at()
    assert arrived is not None
    assert before < arrived < timezone.now()


def test_a_user_config_can_get_the_canary_too(make_config: MakeConfig, receiver: Receiver) -> None:
    config = make_config()
    NotificationConfig.objects.filter(pk=config.pk).update(is_canary=True)

    assert services.create_canaries(now=timezone.now()) == 2
    deliver()

    assert [body["type"] for body in bodies(receiver)] == ["notification.canary"]


def test_readyz_fails_while_a_delivery_is_overdue(
    workflow: Workflow, make_config: MakeConfig, client: Any, settings: Any
) -> None:
    make_config()
    fail(start_run(workflow))

    def check() -> dict[str, Any]:
        found: dict[str, Any] = client.get("/readyz", headers={"Authorization": "Bearer only for the tests"}).json()[
            "checks"
        ]["notifications"]
        return found

    assert check()["status"] == "ok"
    Delivery.objects.update(due_at=timezone.now() - timedelta(seconds=settings.NOTIFICATION_OVERDUE + 1))
    bad = check()
    assert (bad["status"], bad["reason"]) == ("unavailable", "1 deliveries are overdue: are beat and a worker running?")
    deliver()
    assert check()["status"] == "ok"


def test_a_delivery_to_a_failing_receiver_is_not_overdue(
    workflow: Workflow, make_config: MakeConfig, settings: Any
) -> None:
    config = make_config()
    fail(start_run(workflow))
    Delivery.objects.update(due_at=timezone.now() - timedelta(hours=1))
    NotificationConfig.objects.filter(pk=config.pk).update(failures=1)

    assert services.overdue(now=timezone.now(), limit=timedelta(seconds=120)) == 0


def test_the_metrics_count_waiting_and_overdue_deliveries(
    workflow: Workflow, make_config: MakeConfig, client: Any
) -> None:
    services.disable(config=make_config(name="Off"))
    make_config()
    fail(start_run(workflow))
    Delivery.objects.filter(status="pending").update(due_at=timezone.now() - timedelta(hours=1))

    lines = client.get("/metrics").content.decode().splitlines()

    assert 'svops_notifications_owed{status="pending"} 1.0' in lines
    assert "svops_notifications_overdue 1.0" in lines
    assert "svops_notifications_disabled_configs 1.0" in lines


def test_deliveries_settled_long_ago_are_deleted(workflow: Workflow, make_config: MakeConfig) -> None:
    make_config()
    for _ in range(2):
        fail(start_run(workflow))
    deliver()
    now = timezone.now()
    old = Delivery.objects.order_by("id")[0]
    Delivery.objects.filter(pk=old.pk).update(finished_at=now - timedelta(days=91))

    assert services.forget(before=now - timedelta(days=90)) == 1
    assert Delivery.objects.exclude(pk=old.pk).count() == Delivery.objects.count() == 1
