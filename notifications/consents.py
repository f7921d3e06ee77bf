"""Which recipients of e-mail SVOps may write to.

These are the owner's own address, unless only the owner says that it is theirs, the domains that an operator allows,
and everybody who has agreed by the link that SVOps sent them. The others get nothing but this link.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.conf import settings

from notifications.models import MailConsent, NotificationConfig
from notifications.transports.email import masked, recipients_in

if TYPE_CHECKING:
    from accounts.models import User


def digest(address: str) -> str:
    """Recognise an address without holding it. Case makes no difference."""
    return hashlib.sha256(address.lower().encode()).hexdigest()


def mailbox(address: str) -> str:
    """Return the digest of the mailbox behind an address: many servers deliver `name+anything` to `name`."""
    name, _, domain = address.rpartition("@")
    return digest(f"{name.partition('+')[0] or name}@{domain}")


def of_owner(owner: User | None) -> dict[str, MailConsent]:
    """Return who has agreed or was asked, by the digest of the address."""
    return {consent.digest: consent for consent in MailConsent.objects.filter(owner=owner)}


def withheld(config: NotificationConfig, given: Mapping[str, MailConsent] | None = None) -> list[str]:
    """Return the recipients that the config must not write to. `given` is the result of `of_owner`, if it is known."""
    needing = [address for address in recipients_in(config.target) if not _is_allowed(address, config.owner)]
    if not needing:
        return []
    known = of_owner(config.owner) if given is None else given
    return [address for address in needing if not _agreed(known.get(digest(address)))]


def _is_allowed(address: str, owner: User | None) -> bool:
    domain = address.rpartition("@")[2].lower()
    if domain in settings.NOTIFICATION_EMAIL_DOMAINS:
        return True
    return owner is not None and owner.email_confirmed and address.lower() == owner.email.lower()


def _agreed(consent: MailConsent | None) -> bool:
    return consent is not None and consent.confirmed_at is not None


def unconfirmed(config: NotificationConfig, given: Mapping[str, MailConsent]) -> list[dict[str, Any]]:
    """Return the recipients who have to agree first, masked, with what they were asked and answered."""
    rows = []
    for address in withheld(config, given):
        consent = given.get(digest(address))
        refused = consent is not None and consent.refused_at is not None
        rows.append(
            {
                "recipient": masked(address),
                "asked_at": consent.asked_at if consent else None,
                "link_due_at": consent.link_due_at if consent else None,
                "refused": refused,
            }
        )
    return rows
