"""Settled deliveries are scheduled again, one or a range."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from notifications import services
from notifications.models import Delivery
from notifications.tests import receiver as behaviours
from notifications.tests.conftest import MakeConfig, attempts, deliver, fail, start_run
from notifications.tests.receiver import Receiver
from workflows.models import Workflow

pytestmark = pytest.mark.django_db


def test_a_redelivery_has_the_same_id_and_a_new_schedule(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    make_config()
    fail(start_run(workflow))
    deliver()

    services.redeliver(delivery=Delivery.objects.get())
    with pytest.raises(services.AlreadyScheduledError):
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
