"""Times of PostgreSQL are read as Django reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.db.backends.postgresql.psycopg_any import BaseTzLoader
from psycopg import DataError
from psycopg.postgres import types
from psycopg.pq import Format

from svops.database_times import TimeLoader

OID = types["timestamptz"].oid


class DjangosLoader(BaseTzLoader):  # type: ignore[misc]  # Django has no types for it
    timezone = UTC


@pytest.mark.parametrize(
    "written",
    [
        "2026-11-29 06:09:17.123456+00",
        "2026-11-29 06:09:17+00",
        "2026-11-29 06:09:17.1+00",
        "1969-12-31 23:59:59.999999+00",
        "0001-01-02 00:00:00+00",
        "9999-12-30 23:59:59+00",
    ],
)
def test_a_time_is_the_one_that_django_reads(written: str) -> None:
    data = written.encode()

    moment = TimeLoader(OID).load(data)

    assert (moment, moment.tzinfo) == (DjangosLoader(OID).load(data), UTC)


@pytest.mark.parametrize("written", ["infinity", "-infinity", "0044-03-15 00:00:00+00 BC", "10000-01-01 00:00:00+00"])
def test_what_is_no_time_of_python_is_refused_as_before(written: str) -> None:
    for loader in (DjangosLoader(OID), TimeLoader(OID)):
        with pytest.raises(DataError):
            loader.load(written.encode())


@pytest.mark.postgres
@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "postgresql", reason="needs PostgreSQL")
def test_every_connection_reads_times_in_this_way() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT '2026-11-29 07:09:17.5+01'::timestamptz")
        row: Any = cursor.fetchone()

    assert connection.connection.adapters.get_loader(OID, Format.TEXT) is TimeLoader
    assert row == (datetime(2026, 11, 29, 6, 9, 17, 500_000, tzinfo=UTC),)
