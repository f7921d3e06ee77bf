"""DRF permissions by scope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured
from rest_framework.exceptions import NotAuthenticated
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts.authentication import caller_of
from accounts.identity import Caller, TicketAction
from accounts.models import UNBOUNDED, User

if TYPE_CHECKING:
    from rest_framework.views import APIView  # which imports this module, as the default permission


class HasScope(BasePermission):
    """Allows signed-in callers that have the scope of the view.

    A view declares `required_scope = Scope.X` (None: signing in is enough), or `required_scopes = {...}` by action
    or by method. A view without either is a mistake and answers nobody.

    Restricted credentials need an opt-in. `follows_bounds = True` admits API keys for certain workflows; all that the
    view shows or changes must come from `visible_to`. `ticket_actions = {...}`, by action or by method, admits
    tickets. `people_only = {...}` names the actions or methods that refuse every API key.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.user.is_authenticated:
            return False
        self.message = _refusal(view, request.method or "", current_caller(request))
        return not self.message


def _refusal(view: APIView, method: str, caller: Caller) -> str:
    """Return why this call is refused; empty if it is allowed."""
    scope = _required(view, method)
    if scope is not None and scope not in caller.scopes:
        return f"This needs the scope {scope}."
    names = {getattr(view, "action", None), "GET" if method == "HEAD" else method}
    if caller.ticket_actions is not None:
        for_tickets: Mapping[str, frozenset[TicketAction]] = getattr(view, "ticket_actions", {})
        named = frozenset().union(*(for_tickets.get(str(name), frozenset()) for name in names))
        return "" if named & caller.ticket_actions else "This ticket does not allow that."
    if not caller.is_person and names & set(getattr(view, "people_only", ())):
        return "An API key cannot do that; sign in."
    if caller.user.bounds != UNBOUNDED and not getattr(view, "follows_bounds", False):
        return "This API key is valid for certain workflows only."
    return ""


def _required(view: APIView, method: str) -> str | None:
    """Return the scope that this call needs; None for a call that DRF answers by itself (OPTIONS, 405)."""
    if hasattr(view, "required_scope"):
        return view.required_scope  # type: ignore[no-any-return]
    scopes: Mapping[str, str] | None = getattr(view, "required_scopes", None)
    if scopes is None:
        raise ImproperlyConfigured(f"{type(view).__name__} names neither required_scope nor required_scopes")
    action = getattr(view, "action", None) or ""
    if method == "OPTIONS" or action == "metadata" or method not in view.allowed_methods:
        return None
    name = action if action in scopes else "GET" if method == "HEAD" else method
    if name not in scopes:
        raise ImproperlyConfigured(f"{type(view).__name__}.required_scopes does not name {name}")
    return scopes[name]


def current_caller(request: Request) -> Caller:
    """Return the caller of an authenticated request, by token or by session."""
    if isinstance(request.auth, Caller):
        return request.auth
    return caller_of(current_user(request), session_key=request.session.session_key)


def current_user(request: Request) -> User:
    """Return the user of an authenticated request."""
    if not isinstance(request.user, User):
        raise NotAuthenticated
    return request.user
