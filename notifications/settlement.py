"""After an attempt: record the result, decide what comes next, and disable configs whose target is gone."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F

from notifications import rules
from notifications.attempts import Result
from notifications.claims import lock_config, suppress
from notifications.models import WAITING, Attempt, Delivery, Kind, NotificationConfig, Outcome, Status
from rest.masking import mask
from workflows.eventlog import events

logger = logging.getLogger(__name__)


@transaction.atomic
def settle(delivery: Delivery, result: Result, *, now: datetime, jitter: float) -> None:
    """Record the result of the attempt, and decide what comes next.

    A worker that has lost its lease still records its attempt. The holder of the lease decides about the delivery.
    """
    result = _masked(result)
    _record(delivery, result)
    # The config's row first: `claim` locks them in this order too.
    config = lock_config(delivery.config_id)
    _record_recipients(delivery, result)
    if result.error:
        _settle_failure(delivery, config, result, now=now, jitter=jitter)
        return
    _move(delivery, status=Status.DELIVERED, finished_at=now, reason="")
    if config.failures:
        NotificationConfig.objects.filter(pk=config.pk).update(failures=0, paused_until=None)


def _masked(result: Result) -> Result:
    """Mask secrets in the words of the receiver. An error may quote the address, which is a secret itself."""
    answer = replace(result.answer, excerpt=mask(result.answer.excerpt)) if result.answer else None
    return replace(result, error=mask(result.error), answer=answer)


def _record(delivery: Delivery, result: Result) -> None:
    outcome = Outcome.REFUSED if result.permanent else Outcome.FAILED if result.error else Outcome.DELIVERED
    Attempt.objects.filter(delivery=delivery, number=delivery.attempts_made).update(
        outcome=outcome,
        duration_ms=round(result.duration / timedelta(milliseconds=1)),
        status_code=(result.answer.status or None) if result.answer else None,
        error=result.error,
        response_excerpt=result.answer.excerpt if result.answer else "",
    )
    logger.info(
        "delivery attempted",
        extra={"delivery_id": delivery.pk, "attempt": delivery.attempts_made, "outcome": str(outcome)},
    )


def _record_recipients(delivery: Delivery, result: Result) -> None:
    """Record the result for each recipient, also from a worker that has lost its lease. Accepted stays accepted."""
    if not (result.answer and result.answer.recipients):
        return
    row = Delivery.objects.filter(pk=delivery.pk)
    rows = {recipient["key"]: recipient for recipient in row.values_list("recipients", flat=True).get()}
    for recipient in result.answer.recipients:
        if rows.get(recipient.key, {}).get("outcome") != "accepted":
            rows[recipient.key] = asdict(recipient)
    row.update(recipients=list(rows.values()))


def _settle_failure(
    delivery: Delivery, config: NotificationConfig, result: Result, *, now: datetime, jitter: float
) -> None:
    wait = None if result.permanent else _wait(delivery, result, jitter=jitter)
    if wait is None:
        _give_up(delivery, config, result, now=now)
    elif config.enabled:
        _move(delivery, due_at=now + wait, reason=result.error)
    else:
        _move(delivery, status=Status.SUPPRESSED, finished_at=now, reason=disabled_because(config.disabled_reason))
    _pause_receiver(config, result, now=now, jitter=jitter)


def _move(delivery: Delivery, **changes: object) -> bool:
    """Change the delivery if this worker still holds its lease; return whether it does."""
    ours = Delivery.objects.filter(pk=delivery.pk, leased_by=delivery.leased_by, status__in=WAITING)
    return ours.update(leased_until=None, leased_by="", **changes) == 1


def _wait(delivery: Delivery, result: Result, *, jitter: float) -> timedelta | None:
    if delivery.kind == Kind.TEST:
        return None  # somebody waits for the answer
    return rules.next_try(delivery.tries, jitter=jitter, retry_after=result.retry_after)


def _give_up(delivery: Delivery, config: NotificationConfig, result: Result, *, now: datetime) -> None:
    tries = "" if result.permanent or delivery.tries == 1 else f"given up after {delivery.tries} tries: "
    if not _move(delivery, status=Status.FAILED, finished_at=now, reason=f"{tries}{result.error}"):
        return
    if result.gone:
        disable(config, reason=f"its target is gone: {result.error}", now=now)
    # A failed notice of a failure is not reported: two dead configs would report each other without end.
    elif delivery.kind != Kind.TEST and not _is_failure_notice(delivery):
        _report(config, reason=f"{tries}{result.error}", disabled=False, now=now)


def _is_failure_notice(delivery: Delivery) -> bool:
    return delivery.event is not None and delivery.event.type == events.NotificationFailed.type


def _pause_receiver(config: NotificationConfig, result: Result, *, now: datetime, jitter: float) -> None:
    """Pause the config, unless only this message was refused: the next one may arrive."""
    if result.permanent and not result.gone:
        return
    wait = rules.pause(config.failures + 1, jitter=jitter, retry_after=result.retry_after)
    NotificationConfig.objects.filter(pk=config.pk).update(failures=F("failures") + 1, paused_until=now + wait)


def disable(config: NotificationConfig, *, reason: str, now: datetime, report: bool = True) -> bool:
    """Stop sending to the config and suppress its waiting deliveries; return whether it was enabled."""
    enabled = NotificationConfig.objects.filter(pk=config.pk, enabled=True)
    if not enabled.update(enabled=False, disabled_reason=reason, disabled_at=now, updated_at=now):
        return False
    suppress(Delivery.objects.filter(config=config, leased_until__isnull=True), reason=disabled_because(reason))
    if report:
        logger.warning("notification config disabled", extra={"config_id": config.pk})
        _report(config, reason=reason, disabled=True, now=now)
    return True


def disabled_because(reason: str) -> str:
    """Return why the deliveries of a disabled config are suppressed."""
    return f"the config was disabled: {reason or 'by hand'}"


def suppress_leftovers(now: datetime) -> None:
    """Suppress the waiting deliveries of disabled configs: a worker held them when the config was disabled."""
    left = Delivery.objects.free(now).filter(config__enabled=False)
    if left.exists():
        suppress(Delivery.objects.filter(pk__in=left.values("pk")), reason=disabled_because(""))


def _report(config: NotificationConfig, *, reason: str, disabled: bool, now: datetime) -> None:
    data = events.NotificationFailed(config_id=config.pk, name=config.name, reason=reason, disabled=disabled)
    events.record(data, now=now, user=config.owner)
