"""A time limit for queries: the database gives up by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError, connection, transaction

OPCODES = 10_000  # SQLite compares the time after so many steps, a few milliseconds


class DeadlineError(Exception):
    """The database did not finish a query in time."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """End a query of this block that takes longer. Raises `DeadlineError`. The block only reads."""
    ends = time.monotonic() + seconds
    limit = _within_on_postgresql if connection.vendor == "postgresql" else _within_on_sqlite
    try:
        with limit(seconds):
            yield
    except OperationalError as exc:
        if time.monotonic() < ends:
            raise
        raise DeadlineError from exc


@contextmanager
def _within_on_postgresql(seconds: float) -> Iterator[None]:
    with transaction.atomic():
        _set_timeout(max(1, int(seconds * 1000)))
        yield
        # A transaction around this block goes on as before.
        _set_timeout(None)


def _set_timeout(milliseconds: int | None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout TO {'DEFAULT' if milliseconds is None else milliseconds}")


@contextmanager
def _within_on_sqlite(seconds: float) -> Iterator[None]:
    connection.ensure_connection()
    ends, database = time.monotonic() + seconds, connection.connection
    database.set_progress_handler(lambda: time.monotonic() > ends, OPCODES)
    try:
        yield
    finally:
        database.set_progress_handler(None, OPCODES)
