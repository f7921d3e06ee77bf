"""Carries out what is owed: claim, try, settle.

Rows are touched before and after a try, never during it, and by one thread; the tries themselves run in a pool of
threads that know no database. A claim is a lease: who dies with it loses it, and the delivery is made again under
the same message id.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from notifications import facts as facts_of
from notifications import logs, messages, rules
from notifications.models import (
    OWED,
    Attempt,
    Delivery,
    DeliveryQuerySet,
    Kind,
    NotificationConfig,
    Outcome,
    Status,
)
from notifications.outgoing import Answer, Client, IPNetwork, Policy
from notifications.sealing import UnsealableError
from notifications.transports import CHANNELS
from notifications.transports.base import Address, DeliveryError, Message
from workflows import events, outbox
from workflows.models import Event

logger = logging.getLogger(__name__)

POLL = 0.25  # seconds between looks for more while tries are under way


def client() -> Client:
    """The HTTP client that the settings ask for."""
    return _client(tuple(settings.NOTIFICATION_ALLOWED_NETWORKS), settings.NOTIFICATION_TIMEOUT)


@lru_cache(maxsize=4)
def _client(allowed: tuple[IPNetwork, ...], timeout: float) -> Client:
    return Client(policy=Policy(allowed), timeout=timeout)


# --- Claim ------------------------------------------------------------------------------------------------


@transaction.atomic
def claim(config_id: int, *, now: datetime, limit: int, only: int | None = None) -> list[Delivery]:
    """Take up to `limit` of the config's due deliveries into our hands; somebody else's are left alone.

    What must not be told any more is suppressed on the way. `only` names one delivery.
    """
    # Claims of one config take turns, so that no more are under way at once than it allows.
    config = _locked(config_id)
    if not (config.enabled and config.deleted_at is None):
        return []
    room = min(limit, config.max_in_flight - config.deliveries.filter(leased_until__gte=now).count())
    due = Delivery.objects.claimable(now).filter(config=config)
    if only is not None:
        due = due.filter(pk=only)
    chosen = list(due.select_related("event").order_by("due_at", "id")[: max(room, 0)])
    return _lease(_tellable(chosen, config), now=now)


def _locked(config_id: int) -> NotificationConfig:
    """The config, its row locked; not against rows that refer to it, or recording events would wait for us."""
    locked = NotificationConfig.objects.select_for_update(of=("self",), no_key=True)
    return locked.select_related("owner").get(pk=config_id)


def _tellable(deliveries: list[Delivery], config: NotificationConfig) -> list[int]:
    """Those that may be told still; the others are settled as suppressed."""
    about = {delivery.pk: delivery.event or _last_folded(delivery) for delivery in deliveries}
    seen = facts_of.visibility([event for event in about.values() if event])
    tellable = []
    for pk, event in about.items():
        if event and (reason := rules.why_hidden(config, seen[event.pk])):
            suppress(Delivery.objects.filter(pk=pk), reason=f"when it was to be sent: {reason}")
        else:
            tellable.append(pk)
    return tellable


def _last_folded(delivery: Delivery) -> Event | None:
    if delivery.kind != Kind.DIGEST:
        return None
    last = delivery.folded.select_related("event").order_by("-id").first()
    return last.event if last else None


def suppress(deliveries: DeliveryQuerySet, *, reason: str) -> int:
    """Settle what is owed of these as never to be sent, for this reason; tell how many that were."""
    return deliveries.filter(status__in=OWED).update(
        status=Status.SUPPRESSED, reason=reason, finished_at=timezone.now(), leased_until=None, leased_by=""
    )


def _lease(ids: list[int], *, now: datetime) -> list[Delivery]:
    me, until = uuid.uuid4().hex, now + timedelta(seconds=settings.NOTIFICATION_LEASE)
    # The filter repeats that they are free: between the read and this write others may have been here.
    Delivery.objects.free(now).filter(pk__in=ids).update(
        leased_until=until, leased_by=me, attempts_made=F("attempts_made") + 1, tries=F("tries") + 1
    )
    related = ("config__owner", "event__workflow", "event__run__user", "episode")
    leased = list(Delivery.objects.filter(pk__in=ids, leased_by=me).select_related(*related).order_by("due_at", "id"))
    cut_short = Attempt.objects.filter(delivery__in=[d.pk for d in leased], outcome=Outcome.RUNNING)
    cut_short.update(outcome=Outcome.LOST, error="the worker was gone before it could say what came of it")
    Attempt.objects.bulk_create(Attempt(delivery=d, number=d.attempts_made, started_at=now) for d in leased)
    return leased


# --- Try --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a try. `error` is empty for one that arrived."""

    duration: timedelta
    answer: Answer | None = None
    error: str = ""
    permanent: bool = False
    gone: bool = False
    retry_after: float | None = None


@dataclass(frozen=True, kw_only=True)
class Ready:
    """Everything that a try needs; no row is read or written from here on."""

    channel: str
    message: Message
    address: Address
    client: Client
    log: logs.Reference | None = None


def prepare(delivery: Delivery) -> Ready:
    """Raises `UnsealableError`."""
    config = delivery.config
    return Ready(
        channel=config.channel,
        message=messages.message_for(delivery),
        address=Address(target=config.target, secrets=tuple(config.secrets)),
        client=client(),
        log=logs.reference(delivery.event) if delivery.event and CHANNELS[config.channel].for_people else None,
    )


def attempt(ready: Ready) -> Result:
    """Try once. Whatever happens is a result: it is written down by whoever asked."""
    started = time.monotonic()

    def taken() -> timedelta:
        return timedelta(seconds=time.monotonic() - started)

    try:
        answer = CHANNELS[ready.channel].send(logs.with_log(ready.message, ready.log), ready.address, ready.client)
    except DeliveryError as exc:
        return Result(
            duration=taken(),
            answer=exc.answer,
            error=str(exc),
            permanent=exc.permanent,
            gone=exc.gone,
            retry_after=exc.retry_after,
        )
    except Exception as exc:
        # The edge of the loop: a bug in one channel must not keep the others from being served.
        logger.exception("transport failed", extra={"channel": ready.channel})
        return Result(duration=taken(), error=f"internal error: {type(exc).__name__}")
    return Result(duration=taken(), answer=answer)


# --- Settle -----------------------------------------------------------------------------------------------


@transaction.atomic
def settle(delivery: Delivery, result: Result, *, now: datetime, jitter: float) -> None:
    """Write down what came of the try, and decide what is next.

    Who has lost the lease meanwhile still writes down the try; what becomes of the delivery is then another's to say.
    """
    _note(delivery, result)
    # The config's row first: the order in which `claim` locks them.
    config = _locked(delivery.config_id)
    if result.error:
        _settle_failure(delivery, config, result, now=now, jitter=jitter)
        return
    _move(delivery, status=Status.DELIVERED, finished_at=now, reason="")
    if config.failures:
        NotificationConfig.objects.filter(pk=config.pk).update(failures=0, paused_until=None)


def _settle_failure(
    delivery: Delivery, config: NotificationConfig, result: Result, *, now: datetime, jitter: float
) -> None:
    wait = None if result.permanent else _wait(delivery, result, jitter=jitter)
    if wait is None:
        _give_up(delivery, config, result, now=now)
    elif config.enabled:
        _move(delivery, due_at=now + wait, reason=result.error)
    else:
        _move(delivery, status=Status.SUPPRESSED, finished_at=now, reason=_disabled(config.disabled_reason))
    _note_failure(config, result, now=now, jitter=jitter)


def _note(delivery: Delivery, result: Result) -> None:
    outcome = Outcome.REFUSED if result.permanent else Outcome.FAILED if result.error else Outcome.DELIVERED
    Attempt.objects.filter(delivery=delivery, number=delivery.attempts_made).update(
        outcome=outcome,
        duration_ms=round(result.duration / timedelta(milliseconds=1)),
        status_code=result.answer.status if result.answer else None,
        error=result.error,
        response_excerpt=result.answer.excerpt if result.answer else "",
    )
    logger.info(
        "delivery attempted",
        extra={"delivery_id": delivery.pk, "attempt": delivery.attempts_made, "outcome": str(outcome)},
    )


def _move(delivery: Delivery, **changes: object) -> bool:
    """Change the delivery if it is still in our hands; tell whether it was."""
    ours = Delivery.objects.filter(pk=delivery.pk, leased_by=delivery.leased_by, status__in=OWED)
    return ours.update(leased_until=None, leased_by="", **changes) == 1


def _wait(delivery: Delivery, result: Result, *, jitter: float) -> timedelta | None:
    if delivery.kind == Kind.TEST:
        return None  # somebody is waiting for the answer
    return rules.next_try(delivery.tries, jitter=jitter, retry_after=result.retry_after)


def _give_up(delivery: Delivery, config: NotificationConfig, result: Result, *, now: datetime) -> None:
    tries = "" if result.permanent or delivery.tries == 1 else f"given up after {delivery.tries} tries: "
    if not _move(delivery, status=Status.FAILED, finished_at=now, reason=f"{tries}{result.error}"):
        return
    if result.gone:
        disable(config, reason=f"its target is gone: {result.error}", now=now)
    # Not of what tells of such a failure itself: two dead configs would tell of each other for ever.
    elif delivery.kind != Kind.TEST and not _tells_of_failures(delivery):
        _tell(config, reason=f"{tries}{result.error}", disabled=False, now=now)


def _tells_of_failures(delivery: Delivery) -> bool:
    return delivery.event is not None and delivery.event.type == events.NotificationFailed.type


def _note_failure(config: NotificationConfig, result: Result, *, now: datetime, jitter: float) -> None:
    """Leave the receiver alone for a while. What is wrong with one message says nothing of the next."""
    if result.permanent and not result.gone:
        return
    wait = rules.pause(config.failures + 1, jitter=jitter, retry_after=result.retry_after)
    NotificationConfig.objects.filter(pk=config.pk).update(failures=F("failures") + 1, paused_until=now + wait)


def disable(config: NotificationConfig, *, reason: str, now: datetime, tell: bool = True) -> bool:
    """Stop telling the config anything, with what is owed to it; tell whether it was enabled."""
    enabled = NotificationConfig.objects.filter(pk=config.pk, enabled=True)
    if not enabled.update(enabled=False, disabled_reason=reason, disabled_at=now, updated_at=now):
        return False
    suppress(Delivery.objects.filter(config=config, leased_until__isnull=True), reason=_disabled(reason))
    if tell:
        logger.warning("notification config disabled", extra={"config_id": config.pk})
        _tell(config, reason=reason, disabled=True, now=now)
    return True


def _disabled(reason: str) -> str:
    return f"the config was disabled: {reason or 'by hand'}"


def _sweep(now: datetime) -> None:
    """What is still owed to a disabled config, because it was in somebody's hands when that was disabled."""
    left = Delivery.objects.free(now).filter(config__enabled=False)
    if left.exists():
        suppress(Delivery.objects.filter(pk__in=left.values("pk")), reason=_disabled(""))


def _tell(config: NotificationConfig, *, reason: str, disabled: bool, now: datetime) -> None:
    data = events.NotificationFailed(config_id=config.pk, name=config.name, reason=reason, disabled=disabled)
    events.record(data, now=now, user=config.owner)


# --- All of it --------------------------------------------------------------------------------------------


def carry_out(delivery: Delivery) -> None:
    """Make the one try that this claimed delivery was claimed for, while the caller waits."""
    ready = _prepared(delivery)
    result = ready if isinstance(ready, Result) else attempt(ready)
    settle(delivery, result, now=timezone.now(), jitter=_jitter())


def _prepared(delivery: Delivery) -> Ready | Result:
    """What to try, or why that can not even begin."""
    try:
        return prepare(delivery)
    except UnsealableError as exc:
        return Result(duration=timedelta(0), error=str(exc), permanent=True)
    except Exception as exc:
        # The edge of the loop, as in `attempt`.
        logger.exception("message not made", extra={"delivery_id": delivery.pk})
        return Result(duration=timedelta(0), error=f"internal error: {type(exc).__name__}")


def _jitter() -> float:
    return random.random()  # noqa: S311 - spreads load, hides nothing


@dataclass
class Pump:
    """Keeps up to `slots` tries under way, fairly.

    A receiver that is slow or dead costs the others nothing: each config starts with one try at a time and gains
    more by answering, one that has failed is asked once a minute, and all of those together never hold more than
    a quarter of the slots.
    """

    slots: int
    flying: dict[Future[Result], Delivery] = field(default_factory=dict)
    trust: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pool = ThreadPoolExecutor(max_workers=self.slots, thread_name_prefix="deliver")

    def work(self, *, budget: timedelta) -> int:
        """Deliver until nothing is due or the time is up; tell how many were taken on. Then `drain`."""
        taken, end = 0, time.monotonic() + budget.total_seconds()
        while time.monotonic() < end:
            taken += self._take()
            if not self.flying:
                break
            self._land(timeout=POLL)
        return taken

    def drain(self) -> None:
        """Settle what is still under way, and end."""
        while self.flying:
            self._land(timeout=None)
        self.pool.shutdown()

    def _take(self) -> int:
        now, taken = timezone.now(), 0
        for config in self._candidates(now):
            room = self._room(config)
            for delivery in claim(config.pk, now=now, limit=room) if room > 0 else []:
                self._launch(delivery)
                taken += 1
        return taken

    def _candidates(self, now: datetime) -> list[NotificationConfig]:
        """Configs with something due: the sound ones first, and of these who has the least under way."""
        if len(self.flying) >= self.slots:
            return []
        due = Delivery.objects.claimable(now).filter(config=OuterRef("pk"))
        ready = NotificationConfig.objects.ready(now).filter(Exists(due))
        return sorted(ready, key=lambda config: (config.failures > 0, self._under_way(config.pk), config.pk))

    def _under_way(self, config_id: int) -> int:
        return sum(delivery.config_id == config_id for delivery in self.flying.values())

    def _room(self, config: NotificationConfig) -> int:
        free = self.slots - len(self.flying)
        if config.failures:
            ailing = sum(delivery.config.failures > 0 for delivery in self.flying.values())
            return min(free, 1 - self._under_way(config.pk), max(self.slots // 4, 1) - ailing)
        return min(free, self.trust.get(config.pk, 1) - self._under_way(config.pk))

    def _launch(self, delivery: Delivery) -> None:
        ready = _prepared(delivery)
        if isinstance(ready, Result):
            self._settle(delivery, ready)
        else:
            self.flying[self.pool.submit(attempt, ready)] = delivery

    def _land(self, *, timeout: float | None) -> None:
        done, _ = wait(self.flying, timeout=timeout, return_when=FIRST_COMPLETED)
        for future in done:
            self._settle(self.flying.pop(future), future.result())

    def _settle(self, delivery: Delivery, result: Result) -> None:
        known = self.trust.get(delivery.config_id, 1)
        self.trust[delivery.config_id] = 1 if result.error else min(known + 1, delivery.config.max_in_flight)
        settle(delivery, result, now=timezone.now(), jitter=_jitter())


_turn = threading.Lock()


def deliver_due(*, budget: timedelta) -> int:
    """Deliver what is due; tell how many were taken on. One pump of a process works, others only finish."""
    if not _turn.acquire(blocking=False):
        return 0
    pump = Pump(settings.NOTIFICATION_SLOTS)
    try:
        try:
            outbox.publish()  # what a crash has left unpublished can not be told of
            _sweep(timezone.now())
            return pump.work(budget=budget)
        finally:
            _turn.release()
    finally:
        pump.drain()
