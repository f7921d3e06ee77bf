"""The forms that people sign in by, on the console and on the admin pages."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AuthenticationForm
from django.core.exceptions import ValidationError

from svops.errors import TooManyRequestsError


class SignInForm(AuthenticationForm):
    """Django's, which tells of a try that came too early apart from a wrong password."""

    def clean(self) -> dict[str, Any]:
        try:
            return super().clean()
        except TooManyRequestsError as exc:
            wait = {"seconds": exc.retry_after}
            raise ValidationError("Too many tries; try again in %(seconds)s s.", code=exc.code, params=wait) from exc


class AdminSignInForm(SignInForm, AdminAuthenticationForm):
    """The same for those who may use the admin pages."""
