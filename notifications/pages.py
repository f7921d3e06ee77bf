"""The page on which a recipient of e-mail agrees or refuses. It needs no account."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts import limits
from accounts.limits import Rate
from notifications import services
from rest.error_responses import response_to
from rest.errors import TooManyRequestsError


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def confirm(request: HttpRequest) -> HttpResponse:
    """Show who asks, and record the answer. Only the POST of a button changes something: mail servers follow links."""
    try:
        limits.require(Rate.AUTH, limits.by_address(request))
    except TooManyRequestsError as exc:
        return response_to(exc)
    given = request.POST if request.method == "POST" else request.GET
    token, answer = str(given.get("token", "")), given.get("answer")
    try:
        consent = services.consent_of(token)
    except services.InvalidLinkError:
        return render(request, "notifications/confirm.html", {"state": "invalid"}, status=404)
    state = "question"
    if request.method == "POST" and answer in {"agree", "refuse"}:
        services.answer_link(consent, agrees=answer == "agree")
        state = str(answer)
    context = {"state": state, "token": token, "recipient": consent.shown, "sender": consent.owner}
    return render(request, "notifications/confirm.html", context)
