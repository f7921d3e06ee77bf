"""The page of the console, and signing in and out. The page gets everything it shows from the API."""

from __future__ import annotations

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse, reverse_lazy
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.generic import TemplateView

from accounts.forms import SignInForm
from accounts.identity import lacks_factor
from accounts.models import User
from console.refusals import as_refusal
from rest.errors import SVOpsError


@method_decorator(ensure_csrf_cookie, name="dispatch")
class ConsoleView(LoginRequiredMixin, TemplateView):
    template_name = "console/console.html"
    login_url = reverse_lazy("console:login")

    def get(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        """Send an administrator who still lacks the second factor to set it up: the API would refuse everything."""
        if isinstance(request.user, User) and lacks_factor(request.user):
            return HttpResponseRedirect(reverse("console:account"))
        return super().get(request, *args, **kwargs)


class SignInView(LoginView):
    form_class = SignInForm
    template_name = "console/login.html"
    next_page = "console:console"
    redirect_authenticated_user = True

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        """Show the errors of the form. A try that came too early answers 429 with `Retry-After`."""
        response = super().form_invalid(form)
        causes = [error.__cause__ for error in form.non_field_errors().as_data()]
        for refusal in causes:
            if isinstance(refusal, SVOpsError):
                as_refusal(response, refusal)
        return response


class SignOutView(LogoutView):
    next_page = "console:login"
