"""Where everything is."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path, re_path
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularSwaggerSplitView

from rest import error_responses
from svops import health, metrics
from svops.root import RootView
from svops.schema import SchemaView, event_schema, streams_schema

handler400 = error_responses.bad_request
handler404 = error_responses.not_found
handler500 = error_responses.server_error

admin.site.login_template = "admin/sign_in.html"
admin.site.site_header = admin.site.site_title = "SVOps"

urlpatterns = [
    path("", include("console.urls")),
    path("admin/", admin.site.urls),
    path(
        "docs",
        SpectacularSwaggerSplitView.as_view(url_name="schema", template_name="svops/docs.html"),
        name="docs",
    ),
    path("", include("notifications.urls")),
    path("api/v1", RootView.as_view(), name="root"),
    path("api/v1/schema", SchemaView.as_view(), name="schema"),
    path("api/v1/events/schema", event_schema, name="event-schema"),
    path("api/v1/asyncapi", streams_schema, name="asyncapi"),
    path("api/v1/", include("accounts.api.urls")),
    path("api/v1/", include("workflows.api.urls")),
    path("api/v1/", include("notifications.api.urls")),
    # Programs want the shape that they know, also while DEBUG shows people a page about the URL configuration.
    re_path("^api/", csrf_exempt(error_responses.not_found)),
    path("favicon.ico", RedirectView.as_view(url=f"{settings.STATIC_URL}console/icon.svg"), name="favicon"),
    path("metrics", metrics.metrics, name="metrics"),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
]
