"""The doctor's page in the admin: on demand, for administrators."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseForbidden
from django.template.response import TemplateResponse
from django.views.decorators.http import require_http_methods

from accounts.models import User
from svops.doctor.examination import examine, summary
from svops.doctor.findings import Finding, Outcome, grouped
from workflows.models import Airflow


def may_see(request: HttpRequest) -> bool:
    return isinstance(request.user, User) and request.user.is_superuser


@require_http_methods(["GET", "POST"])
def page(request: HttpRequest, site: AdminSite) -> HttpResponse:
    if not may_see(request):
        return HttpResponseForbidden("Only administrators may see this page.")
    names = Airflow.active_names()
    chosen = request.POST.get("airflow", "")
    if chosen and chosen not in names:
        return HttpResponseBadRequest(f"airflow: expected one of {', '.join(names)}, or nothing for all of them.")
    findings = list(examine(airflow=chosen)) if request.method == "POST" else []
    context: dict[str, Any] = {
        **site.each_context(request),
        "title": "Doctor",
        "parts": [(title, [_shown(row) for row in rows]) for title, rows in grouped(findings).items()],
        "airflows": names if len(names) > 1 else [],
        "chosen": chosen,
        "result": summary(findings) if findings else "",
    }
    return TemplateResponse(request, "svops/doctor.html", context)


def _shown(finding: Finding) -> dict[str, Any]:
    return {**finding.as_json(), "colour": _colour(finding)}


def _colour(finding: Finding) -> str:
    if finding.is_problem:
        return "failed"
    if finding.outcome == Outcome.WORKS:
        return "success"
    return "none" if finding.outcome == Outcome.ABSENT else "warning"
