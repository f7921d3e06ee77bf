"""The page of one's own account: sessions and the second factor. Plain forms, which work without JavaScript."""

from __future__ import annotations

import uuid
from typing import cast

import segno
from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse, reverse_lazy
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.generic import View

from accounts import limits, lockout, services
from accounts.addresses import address_of
from accounts.authentication import caller_of
from accounts.identity import lacks_factor
from accounts.models import User
from rest.errors import InvalidInputError, SVOpsError


@method_decorator(never_cache, name="dispatch")
class AccountView(LoginRequiredMixin, View):
    login_url = reverse_lazy("console:login")

    def get(self, request: HttpRequest) -> HttpResponse:
        return self._page(request)

    def post(self, request: HttpRequest) -> HttpResponse:
        """Do what the pressed button says, and show the page again with the result."""
        try:
            return self._page(request, **self._act(request, request.POST.get("do", "")))
        except InvalidInputError as exc:
            return self._page(request, problem=" ".join(text for texts in exc.errors.values() for text in texts))
        except SVOpsError as exc:
            return self._page(request, problem=str(exc))

    def _act(self, request: HttpRequest, what: str) -> dict[str, object]:
        user = cast("User", request.user)
        given = {name: request.POST.get(name, "")[:128] for name in ("current_password", "code")}
        if what == "end":
            services.end_session(user=user, session_id=_uuid(request.POST.get("session", "")))
            return {"done": "Ended."}
        if what == "everywhere":
            services.sign_out_everywhere(user=user)
            return {}
        limits.require(limits.Rate.AUTH, limits.by_address(request))
        who = {"username": user.username, "address": address_of(request)}
        lockout.begin(**who)
        result: dict[str, object] = {}
        if what == "begin":
            result["new"] = services.begin_factor(user=user, current_password=given["current_password"])
        elif what == "confirm":
            result["codes"] = services.confirm_factor(
                user=user, code=given["code"], session_key=request.session.session_key
            )
        elif what == "codes":
            result["codes"] = services.new_recovery_codes(user=user, **given)
        elif what == "disable":
            services.disable_factor(user=user, **given)
        lockout.succeed(**who)
        return result

    def _page(self, request: HttpRequest, **context: object) -> HttpResponse:
        user = cast("User", request.user)
        if request.POST.get("do") == "everywhere":
            return HttpResponseRedirect(reverse("console:login"))
        sessions = services.open_sessions(caller_of(user, session_key=request.session.session_key))
        if isinstance(new := context.get("new"), services.NewFactor):
            context["qr_code"] = segno.make(new.uri).svg_data_uri(scale=5, light="white")
        context |= {"sessions": sessions, "lacks_factor": lacks_factor(user), "factor_since": user.second_factor_at}
        return render(request, "console/account.html", context)


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError as exc:
        raise InvalidInputError({"session": ["There is no such session."]}) from exc
