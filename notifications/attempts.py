"""One attempt: everything it needs is read before, then it runs without touching the database."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from django.conf import settings

from notifications import consents, logs, messages
from notifications.addresses import IPNetwork, Policy
from notifications.models import Delivery
from notifications.outgoing import Answer, Client, Recipient
from notifications.transports import CHANNELS
from notifications.transports.base import Address, DeliveryError, Message
from rest.sealing import UnsealableError

logger = logging.getLogger(__name__)


def client() -> Client:
    """Return the HTTP client for the present settings."""
    return _client(
        tuple(settings.NOTIFICATION_ALLOWED_NETWORKS),
        settings.NOTIFICATION_TIMEOUT,
        settings.NOTIFICATION_APPRISE_WORKERS,
    )


@lru_cache(maxsize=4)
def _client(allowed: tuple[IPNetwork, ...], timeout: float, apprise_workers: int) -> Client:
    return Client(policy=Policy(allowed), timeout=timeout, apprise_workers=apprise_workers)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of an attempt. `error` is empty if the message arrived."""

    duration: timedelta
    answer: Answer | None = None
    error: str = ""
    permanent: bool = False
    gone: bool = False
    retry_after: float | None = None


@dataclass(frozen=True, kw_only=True)
class Ready:
    """Everything that an attempt needs. It reads and writes no row."""

    channel: str
    message: Message
    address: Address
    client: Client
    log: logs.Reference | None = None


def prepare(delivery: Delivery) -> Ready | Result:
    """Return what the attempt needs, or the result if it cannot even begin."""
    try:
        return _ready(delivery)
    except UnsealableError as exc:
        return Result(duration=timedelta(0), error=str(exc), permanent=True)
    except Exception as exc:
        # The edge of the loop, as in `attempt`.
        logger.exception("message not made", extra={"delivery_id": delivery.pk})
        return Result(duration=timedelta(0), error=f"internal error: {type(exc).__name__}")


def _ready(delivery: Delivery) -> Ready:
    config = delivery.config
    withheld = tuple(consents.withheld(config)) if config.channel == "email" else ()
    return Ready(
        channel=config.channel,
        message=messages.message_for(delivery),
        address=Address(target=config.target, secrets=tuple(config.secrets), done=_done(delivery), withheld=withheld),
        client=client(),
        log=logs.reference(delivery.event) if delivery.event and CHANNELS[config.channel].for_people else None,
    )


def _done(delivery: Delivery) -> tuple[Recipient, ...]:
    """Return the recipients that need no further try. The first try of a redelivery includes those that refused."""
    recipients = [Recipient(**row) for row in delivery.recipients]
    final = {"accepted"} if delivery.tries <= 1 else {"accepted", "refused"}
    return tuple(recipient for recipient in recipients if recipient.outcome in final)


def attempt(ready: Ready) -> Result:
    """Try once. Errors are results too: the caller records them."""
    started = time.monotonic()

    def elapsed() -> timedelta:
        return timedelta(seconds=time.monotonic() - started)

    try:
        answer = CHANNELS[ready.channel].send(logs.with_log(ready.message, ready.log), ready.address, ready.client)
    except DeliveryError as exc:
        return Result(
            duration=elapsed(),
            answer=exc.answer,
            error=str(exc),
            permanent=exc.permanent,
            gone=exc.gone,
            retry_after=exc.retry_after,
        )
    except Exception as exc:
        # The edge of the loop: a bug in one channel must not stop the others.
        logger.exception("transport failed", extra={"channel": ready.channel})
        return Result(duration=elapsed(), error=f"internal error: {type(exc).__name__}")
    return Result(duration=elapsed(), answer=answer)
