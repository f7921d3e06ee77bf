"""The page, and signing in and out of it. All that it shows comes over the API, as the caller may see it."""

from __future__ import annotations

from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import reverse_lazy
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.generic import TemplateView

from accounts.forms import SignInForm


@method_decorator(ensure_csrf_cookie, name="dispatch")
class ConsoleView(LoginRequiredMixin, TemplateView):
    template_name = "console/console.html"
    login_url = reverse_lazy("console:login")


class SignInView(LoginView):
    form_class = SignInForm
    template_name = "console/login.html"
    next_page = "console:console"
    redirect_authenticated_user = True


class SignOutView(LogoutView):
    next_page = "console:login"
