"""Tickets: issuing and revoking them, and the rights of their holder."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import api_keys, audit, opaque
from accounts.identity import TICKET_SCOPES, Caller, Scope, TicketAction, Via, scopes_of
from accounts.models import Bounds, Ticket, User
from accounts.opaque import Kind
from accounts.tokens import InvalidTokenError
from rest.errors import InvalidInputError, NotAllowedError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class NewTicket:
    """A new ticket, and its text, which is shown only once."""

    ticket: Ticket
    text: str = field(repr=False)


def require_issuable(*, caller: Caller, actions: Collection[TicketAction], seconds: int, field: str = "ttl") -> None:
    """Raise `InvalidInputError` for too many or too few seconds, which were given as `field`.

    Raise `NotAllowedError` for an action whose scope the caller lacks.
    """
    if not 0 < seconds <= settings.TICKET_MAX_SECONDS:
        raise InvalidInputError({field: [f"Expected 1 to {settings.TICKET_MAX_SECONDS:.0f} seconds."]})
    for action in actions:
        if TICKET_SCOPES[action] not in caller.scopes:
            raise NotAllowedError(f"This needs the scope {TICKET_SCOPES[action]}.")


@transaction.atomic
def issue_ticket(
    *, caller: Caller, run_id: uuid.UUID, workflow_id: int, actions: Collection[TicketAction], seconds: int
) -> NewTicket:
    """Issue a ticket that lives for so many seconds. The calling code has checked the caller's rights on the run.

    Raises as `require_issuable` does.
    """
    require_issuable(caller=caller, actions=actions, seconds=seconds)
    now = timezone.now()
    new = opaque.new(Kind.TICKET)
    ticket = Ticket.objects.create(
        user=caller.user,
        api_key_id=caller.api_key_id,
        prefix=new.prefix,
        digest=new.digest,
        workflow_id=workflow_id,
        run_id=run_id,
        actions=sorted(set(actions)),
        created_at=now,
        expires_at=now + timedelta(seconds=seconds),
    )
    facts = audit.facts_of(ticket, ("workflow_id", "run_id", "actions", "expires_at"))
    audit.record("ticket.issued", ticket, after=facts, actor=caller.user)
    logger.info("ticket issued", extra={"user_id": caller.user.pk, "run_id": str(run_id), "ticket": ticket.prefix})
    return NewTicket(ticket=ticket, text=new.text)


@transaction.atomic
def revoke_ticket(*, ticket: Ticket) -> None:
    """Revoke the ticket. A stream that it opened ends with the next heartbeat."""
    if Ticket.objects.filter(pk=ticket.pk, revoked_at__isnull=True).update(revoked_at=timezone.now()):
        audit.record("ticket.revoked", ticket)
        logger.info("ticket revoked", extra={"user_id": ticket.user_id, "ticket": ticket.prefix})


def forget_tickets(*, expired_before: datetime) -> int:
    """Delete the tickets that expired before then. Return how many."""
    return Ticket.objects.filter(expires_at__lt=expired_before).delete()[0]


def authenticate_ticket(text: str) -> Caller:
    """Return the caller behind this ticket. Raises `InvalidTokenError`."""
    presented = opaque.read(Kind.TICKET, text)
    ticket = _alive(Q(prefix=presented.prefix))
    if ticket is None or not opaque.matches(presented, ticket.digest):
        raise InvalidTokenError("The ticket is not valid, has expired or was revoked.")
    user = ticket.user
    user.bounds = Bounds(workflow_ids=frozenset({ticket.workflow_id}), run_id=ticket.run_id)
    actions = frozenset(map(TicketAction, ticket.actions))
    withheld = frozenset(Scope) - {TICKET_SCOPES[action] for action in actions}
    return Caller(
        user=user,
        scopes=scopes_of(user) - withheld,
        via=Via.TICKET,
        withheld=withheld,
        expires_at=ticket.expires_at,
        ticket_id=ticket.pk,
        ticket_actions=actions,
        credential=str(ticket),
    )


def holder(ticket_id: int) -> User | None:
    """Return the user of a ticket that is still valid."""
    ticket = _alive(Q(pk=ticket_id))
    return ticket.user if ticket else None


def _alive(which: Q) -> Ticket | None:
    now = timezone.now()
    ticket = Ticket.objects.alive(now).select_related("user", "api_key").filter(which, user__is_active=True).first()
    if ticket is None or (ticket.api_key and not api_keys.is_alive(ticket.api_key, now)):
        return None
    return ticket
