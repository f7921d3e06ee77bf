"""The links by which recipients of e-mail agree or refuse, and the limits of mails to one mailbox.

`notifications.link_mails` sends the links.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from urllib.parse import quote

from django.conf import settings
from django.core import signing
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import audit, limits
from accounts.limits import Rate
from accounts.models import User
from notifications import consents
from notifications.models import MailConsent, NotificationConfig
from notifications.transports.email import masked

SALT = "notifications.links"
PATH = "/notifications/confirm"
ASKED_EVERY = timedelta(days=1)


class InvalidLinkError(Exception):
    """The link is not one of ours, or has expired."""


def ask_recipients(*, config: NotificationConfig) -> int:
    """Let a worker send a link to the recipients that have to agree first; return how many links that is.

    No link goes to a recipient who refused one or whom this owner asked in the last day, and none beyond the limits.
    """
    return sum(_want_link(config.owner, address) for address in consents.withheld(config))


@transaction.atomic
def _want_link(owner: User | None, address: str) -> bool:
    """Count a link, and store that it is due; return whether it may be sent."""
    now = timezone.now()
    if owner is not None:
        # The links of one owner are counted one after the other.
        User.objects.select_for_update(no_key=True).get(pk=owner.pk)
    consent, _ = MailConsent.objects.get_or_create(
        owner=owner,
        digest=consents.digest(address),
        defaults={"mailbox": consents.mailbox(address), "shown": masked(address)},
    )
    lately = Q(asked_at__gt=now - ASKED_EVERY) | Q(link_due_at__isnull=False)
    if MailConsent.objects.filter(lately, owner=owner).count() >= settings.NOTIFICATION_LINKS_PER_DAY:
        return False
    if has_refused(consent):
        return False
    wanted = MailConsent.objects.exclude(lately).filter(pk=consent.pk, confirmed_at__isnull=True)
    return wanted.update(link_due_at=now, link_tries=0) == 1


def has_refused(consent: MailConsent) -> bool:
    """Return whether the mailbox refused a link of anybody."""
    return MailConsent.objects.filter(mailbox=consent.mailbox, refused_at__isnull=False).exists()


def link_to(consent: MailConsent) -> str:
    """Return a link by which the recipient agrees or refuses. It is valid from now on."""
    return f"{settings.PUBLIC_URL.rstrip('/')}{PATH}?token={quote(signing.dumps(consent.pk, salt=SALT))}"


def consent_of(token: str) -> MailConsent:
    """Return the row that a link is about. Raises `InvalidLinkError`."""
    try:
        pk = signing.loads(token, salt=SALT, max_age=timedelta(seconds=settings.NOTIFICATION_LINK_SECONDS))
    except signing.BadSignature as exc:
        raise InvalidLinkError from exc
    found = MailConsent.objects.select_related("owner").filter(pk=pk).first()
    if found is None:
        raise InvalidLinkError
    return found


@transaction.atomic
def answer_link(consent: MailConsent, *, agrees: bool) -> None:
    """Record the answer of the recipient. A later answer replaces it, as long as the link is valid."""
    now = timezone.now()
    changes = {"confirmed_at": now if agrees else None, "refused_at": None if agrees else now}
    MailConsent.objects.filter(pk=consent.pk).update(**changes)
    action = "mail_recipient.agreed" if agrees else "mail_recipient.refused"
    audit.record(action, consent, after={"owner_id": consent.owner_id, "recipient": consent.shown})


def require_room(addresses: Iterable[str]) -> None:
    """Count a test mail for each of these mailboxes. Raises `TooManyRequestsError` if it is one too many."""
    for each in sorted({consents.mailbox(address) for address in addresses}):
        limits.require(Rate.RECIPIENT, each)
