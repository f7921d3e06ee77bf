"""A log whose database another one has replaced: no cursor of a lost event hides a new one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection

from workflows.eventlog import epochs, publication
from workflows.models import Event, LogHead

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 29, tzinfo=UTC)
BASE = int(NOW.timestamp() * 1_000_000)


@pytest.fixture
def three_events(db: None) -> None:
    LogHead.objects.all().delete()
    append(3)


def append(count: int) -> None:
    Event.objects.bulk_create(Event(type="system.airflow_up", timestamp=NOW) for _ in range(count))
    publication.publish()


def move_to_another_database() -> None:
    """What is stored is that of the database before."""
    LogHead.objects.update(identity="another")


@pytest.mark.usefixtures("three_events")
def test_the_first_time_it_only_remembers_the_database() -> None:
    assert not epochs.notice(now=NOW)
    assert not epochs.notice(now=NOW)

    assert publication.head() == 3


@pytest.mark.usefixtures("three_events")
def test_in_another_database_the_log_goes_on_at_a_distant_position_once() -> None:
    move_to_another_database()

    assert epochs.notice(now=NOW)
    assert not epochs.notice(now=NOW + timedelta(seconds=1))

    append(1)
    assert [event.position for event in publication.read_after(0)] == [1, 2, 3, BASE + 1]


@pytest.mark.parametrize(
    ("cursor", "refusal"),
    [
        (0, ""),
        (2, ""),
        (3, ""),
        (4, "the cursor is of a log that another one has replaced"),
        (BASE - 1, "the cursor is of a log that another one has replaced"),
        (BASE, ""),
        (BASE + 1, "the cursor is beyond the end of the log"),
    ],
)
@pytest.mark.usefixtures("three_events")
def test_only_cursors_of_lost_events_are_refused(cursor: int, refusal: str) -> None:
    epochs.begin_anew(now=NOW)

    assert publication.why_not_from(cursor).startswith(refusal)
    assert bool(publication.why_not_from(cursor)) == bool(refusal)


@pytest.mark.parametrize(("position", "found"), [(0, 0), (3, 3), (4, BASE), (BASE - 1, BASE), (BASE, BASE)])
@pytest.mark.usefixtures("three_events")
def test_who_was_at_a_lost_event_goes_on_where_the_log_goes_on(position: int, found: int) -> None:
    epochs.begin_anew(now=NOW)

    assert publication.found_again(position) == found


@pytest.mark.usefixtures("three_events")
def test_a_second_restore_goes_further_even_if_the_clock_went_back() -> None:
    first = epochs.begin_anew(now=NOW)
    second = epochs.begin_anew(now=NOW - timedelta(days=1))

    assert (first, second) == (BASE, BASE + 1)


@pytest.mark.usefixtures("three_events")
def test_an_operator_may_order_it() -> None:
    out = StringIO()

    call_command("begin_log_anew", stdout=out)

    assert out.getvalue() == f"The log goes on after {publication.head()}.\n"
    assert publication.head() > BASE


@pytest.mark.skipif(connection.vendor != "postgresql", reason="needs PostgreSQL")
def test_a_server_without_these_functions_or_rights_is_known_by_its_database_and_table(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE hosted; GRANT hosted TO CURRENT_USER; GRANT SELECT ON workflows_event TO hosted")
        cursor.execute("REVOKE EXECUTE ON FUNCTION pg_control_system(), pg_current_wal_lsn() FROM PUBLIC")
        whole = epochs._identity().split("/")
        cursor.execute("SET LOCAL ROLE hosted")

    assert all(whole)
    assert epochs._identity().split("/") == [*whole[:2], "", ""]
