"""`/api/v1`: links to the lists and to the documentation."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.serializers import URLField
from rest_framework.views import APIView

from rest.query import StrictQuery

LINKS = {
    "docs": "docs",
    "schema": "schema",
    "event_schema": "event-schema",
    "asyncapi": "asyncapi",
    "login": "login",
    "me": "me",
    "dags": "dag-list",
    "workflows": "workflow-list",
    "runs": "run-list",
    "events": "events",
    "notification_configs": "notification-config-list",
    "notification_deliveries": "notification-delivery-list",
    "api_keys": "api-key-list",
    "tickets": "ticket-list",
    "users": "user-list",
    "audit": "audit-list",
}
ADDRESSES = inline_serializer("Links", {name: URLField() for name in LINKS})


class RootView(StrictQuery, APIView):
    """Links to what the API offers."""

    permission_classes = [AllowAny]

    @extend_schema(
        operation_id="get_root",
        tags=["root"],
        summary="API root",
        description="Returns links to the lists and to the documentation. Needs no token.",
        responses={200: ADDRESSES},
    )
    def get(self, request: Request) -> Response:
        return Response({name: reverse(view, request=request) for name, view in LINKS.items()})
