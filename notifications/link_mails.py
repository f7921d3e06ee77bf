"""Sends the links by which recipients of e-mail agree or refuse. A link that is due is sent at least once."""

from __future__ import annotations

import logging
import random
from datetime import datetime, timedelta

from django.conf import settings

from accounts import limits
from accounts.limits import Rate
from notifications import attempts, consents, rules
from notifications.models import MailConsent, NotificationConfig, new_message_id
from notifications.services import links
from notifications.transports import CHANNELS
from notifications.transports.base import Address, DeliveryError, Message
from notifications.transports.email import recipients_in
from rest.sealing import UnsealableError

logger = logging.getLogger(__name__)

AT_ONCE = 20


def send_due(*, now: datetime) -> int:
    """Send the links that are due; return how many were sent. It ends when the mail server fails."""
    sent = 0
    due = MailConsent.objects.filter(link_due_at__lte=now).select_related("owner").order_by("link_due_at", "pk")
    for consent in due[:AT_ONCE]:
        if not _lease(consent, now):
            continue
        try:
            sent += _send(consent, now)
        except DeliveryError as exc:
            logger.warning("link not sent", extra={"consent_id": consent.pk, "error": type(exc).__name__})
            if exc.answer is None or not exc.answer.recipients:
                _try_later(consent, now)
                break
            # The mail server refuses this recipient, who counts as asked.
            _settle(consent, asked_at=now)
    return sent


def _lease(consent: MailConsent, now: datetime) -> bool:
    """Take the link, so that no other worker sends it. After a crash it is due again."""
    until = now + timedelta(seconds=settings.NOTIFICATION_LEASE)
    taken = MailConsent.objects.filter(pk=consent.pk, link_due_at=consent.link_due_at).update(link_due_at=until)
    consent.link_due_at = until
    return taken == 1


def _send(consent: MailConsent, now: datetime) -> bool:
    """Send the link if it still may be sent; return whether it was. Raises `DeliveryError`."""
    address = _address_of(consent)
    if address is None or links.has_refused(consent) or not _has_room(consent):
        _settle(consent)
        return False
    CHANNELS["email"].send(_message(consent), Address(target=address), attempts.client())
    _settle(consent, asked_at=now)
    return True


def _address_of(consent: MailConsent) -> str | None:
    """Return the address, which only a config holds; None if no config of the owner needs it any more."""
    if consent.confirmed_at is not None or (consent.owner is not None and not consent.owner.is_active):
        return None
    for config in NotificationConfig.objects.alive().filter(owner=consent.owner, channel="email"):
        try:
            recipients = recipients_in(config.target)
        except UnsealableError:
            continue
        for address in recipients:
            if consents.digest(address) == consent.digest:
                return address
    return None


def _has_room(consent: MailConsent) -> bool:
    usage = limits.hit(Rate.RECIPIENT, consent.mailbox)
    return usage is None or usage.allowed


def _message(consent: MailConsent) -> Message:
    who = f"account {consent.owner_id}" if consent.owner_id else "the administrators"
    hours = round(settings.NOTIFICATION_LINK_SECONDS / 3600)
    # No name that a user has chosen: a stranger reads this.
    return Message(
        id=new_message_id(),
        body={},
        title="May SVOps send you notifications?",
        facts=(("Sender", f"{who} at {settings.PUBLIC_URL}"), ("Without your answer", "you get no other mail")),
        links=((f"Agree or refuse, within {hours} hours", links.link_to(consent)),),
    )


def _settle(consent: MailConsent, *, asked_at: datetime | None = None) -> None:
    """End the link, as sent at that time or not sent. A worker that has lost its lease changes nothing."""
    changes = {"link_due_at": None, **({} if asked_at is None else {"asked_at": asked_at})}
    MailConsent.objects.filter(pk=consent.pk, link_due_at=consent.link_due_at).update(**changes)


def _try_later(consent: MailConsent, now: datetime) -> None:
    """Make the link due again, or give it up. Nobody got anything, so the owner may then ask again."""
    tries = consent.link_tries + 1
    wait = rules.next_try(tries, jitter=random.random())  # noqa: S311 - spreads load, hides nothing
    MailConsent.objects.filter(pk=consent.pk, link_due_at=consent.link_due_at).update(
        link_tries=tries, link_due_at=None if wait is None else now + wait
    )
