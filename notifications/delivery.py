"""The delivery loop: claim what is due, attempt it in a pool of threads, settle the results.

One thread reads and writes rows, before and after each attempt. The threads of the pool only send.
"""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef
from django.utils import timezone

from notifications.attempts import Result, attempt, prepare
from notifications.claims import claim
from notifications.models import Delivery, NotificationConfig
from notifications.settlement import settle, suppress_leftovers
from workflows.eventlog import publication

POLL = 0.25  # seconds between looks for more deliveries while attempts are under way

_turn = threading.Lock()


def deliver_due(*, budget: timedelta) -> int:
    """Deliver what is due; return how many deliveries were begun.

    In each process one call at a time begins deliveries. A call whose time is up still finishes its attempts.
    """
    if not _turn.acquire(blocking=False):
        return 0
    pump = Pump(settings.NOTIFICATION_SLOTS)
    try:
        try:
            publication.publish()  # a crash may have left events unpublished, and those cannot be sent
            suppress_leftovers(timezone.now())
            return pump.work(budget=budget)
        finally:
            _turn.release()
    finally:
        pump.drain()


def deliver_one(delivery: Delivery) -> None:
    """Make one attempt at a claimed delivery while the caller waits."""
    ready = prepare(delivery)
    result = ready if isinstance(ready, Result) else attempt(ready)
    settle(delivery, result, now=timezone.now(), jitter=_jitter())


def _jitter() -> float:
    return random.random()  # noqa: S311 - spreads load, hides nothing


@dataclass
class Pump:
    """Keeps up to `slots` attempts under way, fairly.

    A slow or dead receiver does not delay the others. Each config starts with one attempt at a time, and gets one
    more with each success. A config whose last attempt failed gets one attempt a minute, and all such configs
    together hold at most a quarter of the slots.
    """

    slots: int
    under_way: dict[Future[Result], Delivery] = field(default_factory=dict)
    trust: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pool = ThreadPoolExecutor(max_workers=self.slots, thread_name_prefix="deliver")

    def work(self, *, budget: timedelta) -> int:
        """Deliver until nothing is due or the time is up; return how many were begun. Call `drain` afterwards."""
        begun, end = 0, time.monotonic() + budget.total_seconds()
        while time.monotonic() < end:
            begun += self._begin_due()
            if not self.under_way:
                break
            self._settle_finished(timeout=POLL)
        return begun

    def drain(self) -> None:
        """Wait for the attempts that are under way, settle them, and end the pool."""
        while self.under_way:
            self._settle_finished(timeout=None)
        self.pool.shutdown()

    def _begin_due(self) -> int:
        now, begun = timezone.now(), 0
        for config in self._candidates(now):
            room = self._room(config)
            for delivery in claim(config.pk, now=now, limit=room) if room > 0 else []:
                self._begin(delivery)
                begun += 1
        return begun

    def _candidates(self, now: datetime) -> list[NotificationConfig]:
        """Return the configs with due deliveries: healthy ones first, then those with the fewest under way."""
        if len(self.under_way) >= self.slots:
            return []
        due = Delivery.objects.claimable(now).filter(config=OuterRef("pk"))
        ready = NotificationConfig.objects.ready(now).filter(Exists(due))
        return sorted(ready, key=lambda config: (config.failures > 0, self._count(config.pk), config.pk))

    def _count(self, config_id: int) -> int:
        return sum(delivery.config_id == config_id for delivery in self.under_way.values())

    def _room(self, config: NotificationConfig) -> int:
        free = self.slots - len(self.under_way)
        if config.failures:
            failing = sum(delivery.config.failures > 0 for delivery in self.under_way.values())
            return min(free, 1 - self._count(config.pk), max(self.slots // 4, 1) - failing)
        return min(free, self.trust.get(config.pk, 1) - self._count(config.pk))

    def _begin(self, delivery: Delivery) -> None:
        ready = prepare(delivery)
        if isinstance(ready, Result):
            self._settle(delivery, ready)
        else:
            self.under_way[self.pool.submit(attempt, ready)] = delivery

    def _settle_finished(self, *, timeout: float | None) -> None:
        done, _ = wait(self.under_way, timeout=timeout, return_when=FIRST_COMPLETED)
        for future in done:
            self._settle(self.under_way.pop(future), future.result())

    def _settle(self, delivery: Delivery, result: Result) -> None:
        trust = self.trust.get(delivery.config_id, 1)
        self.trust[delivery.config_id] = 1 if result.error else min(trust + 1, delivery.config.max_in_flight)
        settle(delivery, result, now=timezone.now(), jitter=_jitter())
