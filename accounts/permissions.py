"""DRF permissions by scope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured
from rest_framework.exceptions import NotAuthenticated
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts.authentication import caller_of
from accounts.identity import Caller
from accounts.models import User

if TYPE_CHECKING:
    from rest_framework.views import APIView  # which imports this module, as the default permission


class HasScope(BasePermission):
    """Signed in, and holding the scope that the view names.

    A view says `required_scope = Scope.X` (None: signed in is enough), or `required_scopes = {...}` by action
    or by method. One that says nothing is a mistake and is answered to nobody.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.user.is_authenticated:
            return False
        scope = _required(view, request.method or "")
        self.message = f"This needs the scope {scope}."
        return scope is None or current_caller(request).may(scope)


def _required(view: APIView, method: str) -> str | None:
    """The scope that this call needs; None for one that DRF will answer by itself (OPTIONS, 405)."""
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
    """The caller behind an authenticated request, however they came."""
    if isinstance(request.auth, Caller):
        return request.auth
    return caller_of(current_user(request), session_key=request.session.session_key)


def current_user(request: Request) -> User:
    """The user behind an authenticated request."""
    if not isinstance(request.user, User):
        raise NotAuthenticated
    return request.user
