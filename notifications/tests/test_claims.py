"""Leases: one worker at a time makes a delivery, and a dead worker delays it only until its lease expires."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from notifications import claims, settlement
from notifications.attempts import Result
from notifications.models import Delivery
from notifications.outgoing import Answer
from notifications.tests.conftest import MakeConfig, attempts, fail, start_run
from workflows.eventlog import publication
from workflows.models import Workflow

pytestmark = pytest.mark.django_db


def test_only_one_of_two_claims_gets_the_delivery(workflow: Workflow, make_config: MakeConfig) -> None:
    config = make_config()
    fail(start_run(workflow))
    publication.publish()
    now = timezone.now()

    first = claims.claim(config.pk, now=now, limit=5)
    second = claims.claim(config.pk, now=now, limit=5)

    assert (len(first), len(second)) == (1, 0)


def test_a_delivery_with_an_expired_lease_is_taken_over_and_its_last_attempt_is_lost(
    workflow: Workflow, make_config: MakeConfig, settings: Any
) -> None:
    config = make_config()
    fail(start_run(workflow))
    publication.publish()
    now = timezone.now()
    (abandoned,) = claims.claim(config.pk, now=now, limit=5)

    later = now + timedelta(seconds=settings.NOTIFICATION_LEASE + 1)
    (taken_over,) = claims.claim(config.pk, now=later, limit=5)
    success = Result(duration=timedelta(0), answer=Answer(200, {}, ""))
    settlement.settle(taken_over, success, now=later, jitter=0)
    # The first worker was not dead: it comes back and reports that its own try failed.
    settlement.settle(abandoned, Result(duration=timedelta(0), error="HTTP 500"), now=later, jitter=0)

    row = Delivery.objects.get()
    assert (row.status, row.reason) == ("delivered", "")
    assert attempts() == [(1, "failed", None, "HTTP 500"), (2, "delivered", 200, "")]


def test_no_more_are_under_way_than_the_config_allows(workflow: Workflow, make_config: MakeConfig) -> None:
    config = make_config(max_in_flight=2)
    for _ in range(5):
        fail(start_run(workflow))
    publication.publish()
    now = timezone.now()

    claimed = [len(claims.claim(config.pk, now=now, limit=10)) for _ in range(2)]

    assert claimed == [2, 0]
