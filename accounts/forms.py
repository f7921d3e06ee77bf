"""The sign-in forms of the console and of the admin pages."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AuthenticationForm
from django.core.exceptions import ValidationError

from accounts.services import SecondFactorRequiredError
from rest.errors import TooManyRequestsError


class SignInForm(AuthenticationForm):
    """Django's form, with a code. It reports a try that came too early separately from a wrong password."""

    code = forms.CharField(
        label="Code of your authenticator app, if you have one",
        required=False,
        max_length=64,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code"}),
    )

    def clean(self) -> dict[str, Any]:
        try:
            return super().clean()
        except SecondFactorRequiredError as exc:
            raise ValidationError(str(exc), code=exc.code) from exc
        except TooManyRequestsError as exc:
            wait = {"seconds": exc.retry_after}
            raise ValidationError("Too many tries; try again in %(seconds)s s.", code=exc.code, params=wait) from exc


class AdminSignInForm(SignInForm, AdminAuthenticationForm):
    """The form of the admin pages, for users who may open them."""
