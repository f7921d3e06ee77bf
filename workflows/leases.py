"""Leases: a worker that takes a row writes until when. A crash blocks nothing, because leases expire."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError, connection
from django.db.models import Q, QuerySet
from django.utils import timezone

logger = logging.getLogger(__name__)


def free(now: datetime, *, field: str = "leased_until") -> Q:
    """Match the rows that nobody holds at `now`: never leased, given back, or with a lease that has expired."""
    return Q(**{f"{field}__isnull": True}) | Q(**{f"{field}__lt": now})


@contextmanager
def held(row: QuerySet[Any], *, now: datetime, length: timedelta, field: str = "leased_until") -> Iterator[bool]:
    """Hold the lease of the one row, and renew it meanwhile. Yield False at once if another worker holds it.

    At the end the lease is given back, unless it had expired and another worker has taken it.
    """
    lease = _Lease(row, field, now + length, length)
    if not row.filter(free(now, field=field)).update(**{field: lease.until}):
        yield False
        return
    lease.start()
    try:
        yield True
    finally:
        lease.end()
        row.filter(**{field: lease.until}).update(**{field: None})


class _Lease(threading.Thread):
    """Renews a lease three times in its length. With its process it dies, and the lease expires."""

    def __init__(self, row: QuerySet[Any], field: str, until: datetime, length: timedelta) -> None:
        super().__init__(name=f"lease {field}", daemon=True)
        self.until = until
        self._row, self._field, self._length = row, field, length
        self._ended = threading.Event()

    def run(self) -> None:
        try:
            while not self._ended.wait(self._length.total_seconds() / 3) and self._is_renewed():
                pass
        finally:
            connection.close()

    def end(self) -> None:
        self._ended.set()
        self.join()

    def _is_renewed(self) -> bool:
        """Renew it. Return False if another worker has taken it: then there is nothing to renew."""
        until = timezone.now() + self._length
        try:
            if not self._row.filter(**{self._field: self.until}).update(**{self._field: until}):
                return False
        except DatabaseError as exc:
            logger.warning("lease not renewed", extra={"lease": self._field, "error": str(exc)})
        else:
            self.until = until
        return True
