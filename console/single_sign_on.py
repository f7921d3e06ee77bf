"""Signing in to the console with an identity provider: the redirect there, and the callback."""

from __future__ import annotations

from django.contrib.auth import login
from django.contrib.auth.views import RedirectURLMixin
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.generic import View

from accounts import identities, limits, oidc
from accounts.forms import SignInForm
from console.refusals import as_refusal
from rest.errors import NotFoundError, SVOpsError


@method_decorator(never_cache, name="dispatch")
class SingleSignOnView(RedirectURLMixin, View):
    """Shows a refusal on the sign-in page, with its reason."""

    next_page = "console:console"

    def dispatch(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        try:
            oidc.require()
            limits.require(limits.Rate.AUTH, limits.by_address(request))
            return super().dispatch(request, *args, **kwargs)
        except NotFoundError as exc:
            raise Http404 from exc
        except SVOpsError as exc:
            return self._refusal(exc)

    def _refusal(self, exc: SVOpsError) -> HttpResponseBase:
        context = {"form": SignInForm(), "problem": str(exc), "next": self.get_redirect_url()}
        return as_refusal(render(self.request, "console/login.html", context), exc)


class StartView(SingleSignOnView):
    # The page links here instead of posting a form: its security policy blocks forms that redirect to another site.
    def get(self, request: HttpRequest) -> HttpResponseBase:
        back = request.build_absolute_uri(reverse("console:oidc-callback"))
        return HttpResponseRedirect(oidc.start(request, redirect_uri=back, next_url=self.get_success_url()))


class CallbackView(SingleSignOnView):
    def get(self, request: HttpRequest) -> HttpResponseBase:
        claims, next_url = oidc.finish(request)
        identity = identities.enter(claims)
        request.identity = identity  # type: ignore[attr-defined]  # for the audit trail
        login(request, identity.user)
        return HttpResponseRedirect(next_url)
