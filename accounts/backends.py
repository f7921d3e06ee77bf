"""Checks the credentials of the sign-in forms of the console and the admin pages."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest

from accounts import limits, services
from accounts.addresses import address_of
from accounts.models import User


class GuardedBackend(ModelBackend):
    """Django's backend, with rate limit, lockout and second factor for the forms.

    Raises `TooManyRequestsError` for a try that comes too early and `SecondFactorRequiredError`; the form shows both.
    """

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> User | None:
        if request is None:
            return super().authenticate(request, username, password, **kwargs)
        limits.require(limits.Rate.AUTH, limits.by_address(request))
        code = str(kwargs.get("code") or request.POST.get("code", ""))[:64]
        try:
            return services.check_credentials(
                username=username or "", password=password or "", address=address_of(request), code=code
            )
        except services.InvalidCredentialsError:
            return None
