"""The content security policy of every answer, and the host of requests that name none of ours."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

# A kubelet, Prometheus and load balancers ask a process by its address. These pages contain no link and no host.
PROBED = ("/healthz", "/readyz", "/metrics")

# Everything comes from our own files. A browser runs no inline script or style, so it never runs the text of a name or
# a note. The stylesheets of the API's pages have `data:` images.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)


def own_files_only(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: adds the policy to every answer, also to answers that no view made."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response

    return middleware


def probed_by_address(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: lets the probed pages be asked for under any host."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if settings.ALLOWED_HOSTS and request.path.rstrip("/") in PROBED:
            request.META["HTTP_HOST"] = settings.ALLOWED_HOSTS[0].lstrip(".").replace("*", "localhost")
        return get_response(request)

    return middleware
