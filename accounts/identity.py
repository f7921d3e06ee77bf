"""The caller: who it is, what they may do, and how they came."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from django.conf import settings

from accounts.models import Role, User


class Scope(StrEnum):
    WORKFLOW_READ = "workflow:read"
    WORKFLOW_WRITE = "workflow:write"
    RUN_TRIGGER = "run:trigger"
    RUN_CONTROL = "run:control"
    NOTIFICATION_WRITE = "notification:write"
    USER_ADMIN = "user:admin"
    AUDIT_READ = "audit:read"


ROLE_SCOPES: Mapping[Role, frozenset[str]] = {
    Role.VIEWER: frozenset({Scope.WORKFLOW_READ}),
    Role.USER: frozenset(
        {
            Scope.WORKFLOW_READ,
            Scope.WORKFLOW_WRITE,
            Scope.RUN_TRIGGER,
            Scope.RUN_CONTROL,
            Scope.NOTIFICATION_WRITE,
        }
    ),
    Role.ADMIN: frozenset(Scope),
}


def scopes_of(user: User) -> frozenset[str]:
    """Return the scopes that the user's role gives now. An admin who lacks the second factor has none of them."""
    if lacks_factor(user):
        return frozenset()
    return ROLE_SCOPES[Role(user.role)]


def lacks_factor(user: User) -> bool:
    """Return whether the user has to set up a second factor first. The identity provider has its own."""
    required = settings.SECOND_FACTOR_ADMINS and user.role == Role.ADMIN
    return required and user.second_factor_at is None and user.has_usable_password()


class Via(StrEnum):
    TOKEN = "token"  # noqa: S105 - a way in, not a secret
    SESSION = "session"  # the cookie of the admin pages and the console
    API_KEY = "api_key"
    TICKET = "ticket"


class TicketAction(StrEnum):
    """An action that a ticket can allow its holder, with the one run that it is for."""

    VIEW = "view"
    LOGS = "logs"
    STOP = "stop"
    RETRY = "retry"


TICKET_SCOPES: Mapping[TicketAction, Scope] = {
    TicketAction.VIEW: Scope.WORKFLOW_READ,
    TicketAction.LOGS: Scope.WORKFLOW_READ,
    TicketAction.STOP: Scope.RUN_CONTROL,
    TicketAction.RETRY: Scope.RUN_CONTROL,
}


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Somebody whose credentials were checked a moment ago; `authentication.refreshed` checks them again."""

    user: User
    scopes: frozenset[str]
    via: Via
    withheld: frozenset[str] = frozenset()
    expires_at: datetime | None = None
    sign_in_id: uuid.UUID | None = None
    session_key: str | None = None
    api_key_id: int | None = None
    ticket_id: int | None = None
    ticket_actions: frozenset[TicketAction] | None = None
    credential: str = ""

    def may(self, scope: str, action: TicketAction | None = None) -> bool:
        """Return whether the caller has the scope. A ticket must also name the action; without one it is refused."""
        return scope in self.scopes and (self.ticket_actions is None or action in self.ticket_actions)

    @property
    def is_person(self) -> bool:
        """Whether the caller has signed in, instead of presenting a key or a ticket."""
        return self.via in {Via.TOKEN, Via.SESSION}
