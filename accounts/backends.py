"""How a name and a password are checked, whichever form or endpoint they come by."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest

from accounts import audit, limits, lockout
from accounts.addresses import address_of
from accounts.models import User


class GuardedBackend(ModelBackend):
    """Django's, with lockout and rate limit for the forms of the console and the admin pages.

    Raises `TooManyRequestsError` for a try that comes too early; their form shows it. The API asks `lockout` itself.
    """

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> User | None:
        if request is None:
            return super().authenticate(request, username, password, **kwargs)
        who = {"username": User.normalize_username(username or ""), "address": address_of(request)}
        limits.require(limits.Rate.AUTH, limits.by_address(request))
        lockout.begin(**who)
        user = super().authenticate(request, username, password, **kwargs)
        if user is None:
            audit.sign_in_failed(who["username"])
        else:
            lockout.succeed(**who)
        return user
