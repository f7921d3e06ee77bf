"""The scheduler of beat: django-celery-beat's, which survives outages of the database."""

from __future__ import annotations

import datetime
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django_celery_beat.schedulers import SCHEDULE_SYNC_MAX_INTERVAL, DatabaseScheduler

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_TRIES = 1.0


class PatientScheduler(DatabaseScheduler):  # type: ignore[misc] # the library has no types
    """Without this, beat ends if it starts or reads its schedules while the database is away."""

    # The time of `time.monotonic()` from which the database is asked again.
    _asks_again_at = 0.0

    def tick(self, *args: Any, **options: Any) -> Any:
        """Send what is due."""
        _show_life()
        return super().tick(*args, **options)

    def setup_schedule(self) -> None:
        """Read the schedules, once the database answers."""
        while True:
            _show_life()
            try:
                super().setup_schedule()
                return
            except (OperationalError, InterfaceError) as exc:
                logger.warning("beat waits for the database", extra={"error": str(exc)})
                connection.close()
                self._initial_read = True
                time.sleep(SECONDS_BETWEEN_TRIES)

    def schedule_changed(self) -> bool:
        """Return whether a schedule has changed. It is not asked again at once if the answer took long.

        While the database is away, each question takes the timeout of the pool, and beat sends nothing meanwhile.
        """
        began = time.monotonic()
        if began < self._asks_again_at:
            return False
        changed = bool(super().schedule_changed())
        now = time.monotonic()
        self._asks_again_at = now + (now - began)
        return changed

    def all_as_schedule(self) -> Any:
        """Return the schedules; those of the last time if the database does not answer."""
        try:
            return super().all_as_schedule()
        except (OperationalError, InterfaceError):
            if self._schedule is None:
                raise
            logger.warning("beat goes on with the schedules that it knows", exc_info=True)
            connection.close()
            # The change that was to be read now counts as read. Without this it would be missed for minutes.
            self._last_full_sync -= datetime.timedelta(seconds=SCHEDULE_SYNC_MAX_INTERVAL)
            return self._schedule


def _show_life() -> None:
    """Touch `BEAT_FILE`: who watches beat sees by its age whether beat hangs."""
    if settings.BEAT_FILE:
        with suppress(OSError):
            Path(settings.BEAT_FILE).touch()
