"""The page, and signing in and out of it. All that it shows comes over the API, as the caller may see it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse_lazy
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.generic import TemplateView

# Everything comes from our own files: no inline script or style is run, so what a name or a note of a run says
# never is.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)


def own_files_only(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Sends the policy with whatever the view answers."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response

    return wrapped


@method_decorator([own_files_only, ensure_csrf_cookie], name="dispatch")
class ConsoleView(LoginRequiredMixin, TemplateView):
    template_name = "console/console.html"
    login_url = reverse_lazy("console:login")


@method_decorator(own_files_only, name="dispatch")
class SignInView(LoginView):
    template_name = "console/login.html"
    next_page = "console:console"
    redirect_authenticated_user = True


@method_decorator(own_files_only, name="dispatch")
class SignOutView(LogoutView):
    next_page = "console:login"
