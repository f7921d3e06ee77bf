"""Reads times from PostgreSQL. A page of runs has hundreds, and the driver reads each with a regular expression."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db.backends.postgresql.psycopg_any import BaseTzLoader


class TimeLoader(BaseTzLoader):  # type: ignore[misc]  # Django has no types for it
    """As Django's loader, in a tenth of the time. What is not a plain time in UTC is left to that one."""

    timezone = UTC

    def load(self, data: Any) -> datetime:
        try:
            moment = datetime.fromisoformat(str(data, "ascii"))
        except ValueError:
            moment = None
        if moment is not None and moment.tzinfo is UTC:
            return moment
        read: datetime = super().load(data)
        return read
