"""Real threads on a database that has more than one writer; and the schedules that set the work off."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from notifications import delivery
from notifications.models import Attempt, Delivery, Episode
from notifications.tests.conftest import MakeConfig, fail, start_run
from svops.celery import app
from workflows import outbox
from workflows.models import Workflow

on_postgres = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
THREADS = 6


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """The work, by several threads with connections of their own, begun together."""
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
def test_claims_at_the_same_moment_share_what_is_due_and_keep_to_what_the_config_allows(
    workflow: Workflow, make_config: MakeConfig
) -> None:
    config = make_config(max_in_flight=4)
    for _ in range(20):
        fail(start_run(workflow))
    outbox.publish()
    now = timezone.now()

    claimed = at_once(lambda _: [row.pk for row in delivery.claim(config.pk, now=now, limit=3)])

    taken = [pk for pks in claimed for pk in pks]
    assert len(taken) == len(set(taken)) == 4
    assert Attempt.objects.count() == 4


@pytest.mark.postgres
@on_postgres
@pytest.mark.django_db(transaction=True)
def test_failures_at_the_same_moment_are_one_alert_and_one_digest(workflow: Workflow, make_config: MakeConfig) -> None:
    make_config(fold_repeats=True)
    runs = [start_run(workflow) for _ in range(THREADS)]

    at_once(lambda number: fail(runs[number], "load"))

    kinds = Delivery.objects.order_by("kind", "status").values_list("kind", "status")
    assert list(kinds) == [("digest", "pending"), ("event", "folded"), *[("event", "folded")] * 4, ("event", "pending")]
    assert Delivery.objects.get(kind="digest").folded_count == Delivery.objects.filter(status="folded").count() == 5
    assert Episode.objects.get().failures == 6


@pytest.mark.django_db
def test_beat_calls_tasks_that_exist() -> None:
    scheduled = PeriodicTask.objects.filter(task__startswith="notifications.", enabled=True)

    names = set(scheduled.values_list("task", flat=True))

    assert names == {f"notifications.tasks.{name}" for name in ("deliver", "canary", "forget")}
    app.loader.import_default_modules()
    assert names <= set(app.tasks)
