"""The admin pages of Django, closed to administrators who still lack their second factor."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.admin.apps import AdminConfig
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse


class Site(AdminSite):
    index_template = "svops/admin_index.html"

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        from svops.doctor.page import may_see

        return super().index(request, {"may_see_doctor": may_see(request), **(extra_context or {})})

    def get_urls(self) -> list[Any]:
        return [path("doctor/", self.admin_view(self.doctor), name="doctor"), *super().get_urls()]

    def doctor(self, request: HttpRequest) -> HttpResponse:
        from svops.doctor.page import page

        return page(request, self)

    def has_permission(self, request: HttpRequest) -> bool:
        return super().has_permission(request) and not _lacks_factor(request)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if _lacks_factor(request):
            return HttpResponseRedirect(reverse("console:account"))
        return super().login(request, extra_context)


def _lacks_factor(request: HttpRequest) -> bool:
    from accounts.identity import lacks_factor
    from accounts.models import User

    return isinstance(request.user, User) and lacks_factor(request.user)


class SiteConfig(AdminConfig):
    default_site = "svops.admin_site.Site"
