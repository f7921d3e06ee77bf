"""Notices that a back-up or another server took the place of the database, and lets the log go on far behind.

Clients may hold cursors of events that were lost with the database before. Without this, new events would get the same
positions, and those clients would never see them. So the log jumps to a position that no lost event can have, and a
cursor in between is refused. The jump is harmless if nothing was lost: every other cursor stays valid.
"""

from __future__ import annotations

import logging
import os
from datetime import datetime

from django.db import NotSupportedError, ProgrammingError, connection, transaction

from workflows.models import LogHead

logger = logging.getLogger(__name__)

MICROSECONDS = 1_000_000
# A restored dump has other tables or another database, a promoted standby another timeline.
_PARTS = (
    "SELECT oid FROM pg_database WHERE datname = current_database()",
    "SELECT 'workflows_event'::regclass::oid",
    "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)",
    "SELECT system_identifier FROM pg_control_system()",
)


class _Process:
    has_looked = False


def notice_once(*, now: datetime) -> None:
    """Look before this process publishes for the first time. A restore ends the processes of the database before.

    After a failover they may live on. Then the tick of a worker notices it, within seconds.
    """
    if not _Process.has_looked:
        notice(now=now)
        _Process.has_looked = True


def notice(*, now: datetime) -> bool:
    """Begin anew if the database is another one than the last time. Return whether it was.

    The first time, it only remembers which one it is. SQLite's is known by its file: one that was written over in place
    is not noticed.
    """
    identity = _identity()
    if LogHead.objects.filter(pk=1, identity=identity).exists():
        return False
    with transaction.atomic():
        head = _locked()
        is_another = head.identity not in {"", identity}
        head.identity = identity
        head.save(update_fields=["identity"])
        if is_another:
            begin_anew(now=now)
    return is_another


@transaction.atomic
def begin_anew(*, now: datetime) -> int:
    """Let the log go on at a position that no lost event can have: the time in microseconds. Return it."""
    head = _locked()
    head.replaced_at = head.position
    # JavaScript's numbers are exact up to five times this one.
    head.position = head.begins_at = max(int(now.timestamp() * MICROSECONDS), head.position + 1)
    head.save(update_fields=["replaced_at", "begins_at", "position"])
    logger.warning("the log begins anew", extra={"after": head.replaced_at, "at": head.begins_at})
    return head.begins_at


def _locked() -> LogHead:
    LogHead.objects.get_or_create(pk=1)
    return LogHead.objects.select_for_update().get(pk=1)


def _identity() -> str:
    """Return what is another text as soon as the database is another one."""
    if connection.vendor != "postgresql":
        return str(os.stat(connection.settings_dict["NAME"]).st_ino)
    return "/".join(_asked(part) for part in _PARTS)


def _asked(question: str) -> str:
    """Return the answer, or "" if this server does not know or does not allow the function, as some hosted ones."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(question)
            return str(cursor.fetchone()[0])
    except (ProgrammingError, NotSupportedError):
        return ""
