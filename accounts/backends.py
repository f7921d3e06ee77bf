"""How a name and a password are checked, whichever form or endpoint they come by."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from accounts import limits, lockout
from accounts.addresses import address_of
from accounts.models import User
from svops.errors import TooManyRequestsError


class GuardedBackend(ModelBackend):
    """Django's, with lockout and rate limit for the forms of the console and the admin pages.

    They show a refusal as they show a wrong password. The API asks `lockout` itself, and answers 429.
    """

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> User | None:
        if request is None:
            return super().authenticate(request, username, password, **kwargs)
        who = {"username": User.normalize_username(username or ""), "address": address_of(request)}
        try:
            limits.require(limits.Rate.AUTH, limits.by_address(request))
            lockout.begin(**who)
        except TooManyRequestsError as exc:
            raise PermissionDenied from exc
        user = super().authenticate(request, username, password, **kwargs)
        if user is not None:
            lockout.succeed(**who)
        return user
