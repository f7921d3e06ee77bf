"""`/api/v1`: links to the lists and to the documentation."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiExample, extend_schema, inline_serializer
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
EXAMPLE = OpenApiExample(
    "Two of them",
    value={"workflows": "http://127.0.0.1:8000/api/v1/workflows", "runs": "http://127.0.0.1:8000/api/v1/runs"},
    response_only=True,
)


class RootView(StrictQuery, APIView):
    """Links to what the API offers."""

    permission_classes = [AllowAny]

    @extend_schema(
        operation_id="root",
        tags=["root"],
        summary="API root",
        description="Returns links to the lists and to the documentation. Needs no token.",
        examples=[EXAMPLE],
        responses={200: ADDRESSES},
    )
    def get(self, request: Request) -> Response:
        return Response({name: reverse(view, request=request) for name, view in LINKS.items()})
