"""Real threads on a database with more than one writer; and the schedules of the background work."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from notifications import claims, link_mails
from notifications.models import Attempt, Delivery, Episode
from notifications.tests.conftest import MakeConfig, fail, start_run
from notifications.tests.test_email import Mailbox, mailbox
from svops.celery import app
from workflows.eventlog import publication
from workflows.models import Workflow

__all__ = ["mailbox"]

on_postgres = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
THREADS = 6


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """Do the work in several threads at once, each with its own connection; return the results."""
    barrier = Barrier(THREADS)

    def one(number: int) -> Any:
        try:
            barrier.wait(timeout=20)
            return work(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(THREADS)))


@pytest.mark.postgres
@on_postgres
@pytest.mark.django_db(transaction=True)
def test_simultaneous_claims_share_the_due_deliveries_and_keep_the_limit_of_the_config(
    workflow: Workflow, make_config: MakeConfig
) -> None:
    config = make_config(max_in_flight=4)
    for _ in range(20):
        fail(start_run(workflow))
    publication.publish()
    now = timezone.now()

    claimed = at_once(lambda _: [row.pk for row in claims.claim(config.pk, now=now, limit=3)])

    taken = [pk for pks in claimed for pk in pks]
    assert len(taken) == len(set(taken)) == 4
    assert Attempt.objects.count() == 4


@pytest.mark.postgres
@on_postgres
@pytest.mark.django_db(transaction=True)
def test_simultaneous_failures_are_one_alert_and_one_digest(workflow: Workflow, make_config: MakeConfig) -> None:
    make_config(fold_repeats=True)
    runs = [start_run(workflow) for _ in range(THREADS)]

    at_once(lambda number: fail(runs[number], "load"))

    kinds = Delivery.objects.order_by("kind", "status").values_list("kind", "status")
    assert list(kinds) == [("digest", "pending"), ("event", "folded"), *[("event", "folded")] * 4, ("event", "pending")]
    assert Delivery.objects.get(kind="digest").folded_count == Delivery.objects.filter(status="folded").count() == 5
    assert Episode.objects.get().failures == 6


@pytest.mark.postgres
@on_postgres
@pytest.mark.django_db(transaction=True)
def test_simultaneous_workers_send_each_link_once(mailbox: Mailbox, make_config: MakeConfig) -> None:
    make_config(channel="email", target=[f"stranger{number}@elsewhere.example" for number in range(8)])
    now = timezone.now()

    sent = at_once(lambda _: link_mails.send_due(now=now))

    assert sum(sent) == len(mailbox.mails) == 8
    assert len({to for recipients in mailbox.recipients for to in recipients}) == 8


@pytest.mark.django_db
def test_beat_calls_tasks_that_exist() -> None:
    scheduled = PeriodicTask.objects.filter(task__startswith="notifications.", enabled=True)

    names = set(scheduled.values_list("task", flat=True))

    assert names == {f"notifications.tasks.{name}" for name in ("deliver", "send_links", "canary", "forget")}
    app.loader.import_default_modules()
    assert names <= set(app.tasks)
