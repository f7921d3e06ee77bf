"""A lease that is held while its holder works: taken once, renewed, given back, and lost by a holder that was away."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.utils import timezone

from workflows import leases
from workflows.models import Airflow

pytestmark = pytest.mark.django_db(transaction=True)

LENGTH = timedelta(seconds=60)
SHORT = timedelta(seconds=0.6)


@pytest.fixture(autouse=True)
def state() -> Airflow:
    return Airflow.default()


def until() -> datetime | None:
    return Airflow.objects.get().leased_until


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_lease_is_held_by_one_and_given_back() -> None:
    now = timezone.now()

    with leases.held(Airflow.objects.all(), now=now, length=LENGTH) as first:
        with leases.held(Airflow.objects.all(), now=now, length=LENGTH) as second:
            pass
        assert until() == now + LENGTH

    assert (first, second, until()) == (True, False, None)


def test_two_leases_of_a_row_are_held_apart() -> None:
    now = timezone.now()
    rows = Airflow.objects.all()

    with (
        leases.held(rows, now=now, length=LENGTH) as polls,
        leases.held(rows, now=now, length=LENGTH, field="dags_leased_until") as syncs,
    ):
        assert (polls, syncs) == (True, True)


def test_a_lease_is_renewed_while_its_holder_works_and_given_back_after_an_error() -> None:
    now = timezone.now()

    def work() -> None:
        with leases.held(Airflow.objects.all(), now=now, length=SHORT):
            eventually(lambda: (until() or now) > now + 3 * SHORT)
            raise LookupError

    with pytest.raises(LookupError):
        work()

    assert until() is None


def test_a_lease_that_another_has_taken_is_not_renewed_and_not_given_back() -> None:
    now = timezone.now()
    others = now + timedelta(hours=1)

    with leases.held(Airflow.objects.all(), now=now, length=SHORT):
        eventually(lambda: (until() or now) > now + SHORT)
        Airflow.objects.update(leased_until=others)

    assert until() == others


def test_the_connection_that_renews_is_closed() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite does not count connections")

    def sessions() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            return int(cursor.fetchone()[0])

    before, now = sessions(), timezone.now()
    with leases.held(Airflow.objects.all(), now=now, length=SHORT):
        eventually(lambda: (until() or now) > now + SHORT)

    eventually(lambda: sessions() <= before)
