"""What is signed in for the caller: the list, ending one, and ending all."""

from __future__ import annotations

import uuid
from typing import Any

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import services
from accounts.api import examples
from accounts.models import User
from accounts.permissions import current_caller, current_user
from rest.query import StrictQuery
from rest.schema import errors
from rest.serializers import NoInput, validated

_SESSION = {
    "id": "0b5e7a52-7f0d-4a43-9a2e-0d6c6a1f9b11",
    "kind": "browser",
    "device": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0",
    "address": "192.0.2.7",
    "created_at": "2026-01-05T09:00:00Z",
    "seen_at": "2026-01-05T11:30:00Z",
    "expires_at": "2026-01-05T23:30:00Z",
    "current": True,
}


class SessionSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    kind = serializers.ChoiceField(
        choices=["token", "browser"], help_text="`token`: signed in over the API; `browser`: with a session cookie."
    )
    device = serializers.CharField(help_text="The browser or program, as it names itself.")
    address = serializers.CharField()
    created_at = serializers.DateTimeField()
    seen_at = serializers.DateTimeField(help_text="The last refresh, or the last request, to the minute.")
    expires_at = serializers.DateTimeField(help_text="When it ends if it is not used.")
    current = serializers.BooleanField(help_text="Whether it is the one of this request.")


@extend_schema(tags=["auth"])
class SessionsView(StrictQuery, GenericAPIView[User]):
    required_scope = None
    people_only = {"GET"}
    serializer_class = SessionSerializer
    query_parameters = {"GET": {"page", "page_size"}}
    filter_backends = []

    @extend_schema(
        operation_id="list_sessions",
        summary="List my sessions",
        description="What is signed in for me, over the API and in browsers, the last used first.",
        examples=[examples.answer(_SESSION)],
        responses={200: SessionSerializer(many=True)},
    )
    def get(self, request: Request) -> Response:
        found = services.open_sessions(current_caller(request))
        page = self.paginate_queryset(found)
        return self.get_paginated_response(SessionSerializer(page, many=True).data)


@extend_schema(tags=["auth"])
class SessionView(StrictQuery, GenericAPIView[User]):
    required_scope = None
    people_only = {"DELETE"}
    serializer_class = SessionSerializer

    @extend_schema(
        operation_id="end_session",
        summary="End one of my sessions",
        description="Its tokens, or its cookie, are refused from then on.",
        responses={204: OpenApiResponse(description="Ended."), **errors(404)},
    )
    def delete(self, request: Request, session_id: uuid.UUID) -> Response:
        services.end_session(user=current_user(request), session_id=session_id)
        return Response(status=status.HTTP_204_NO_CONTENT)


@extend_schema(tags=["auth"])
class SignOutEverywhereView(StrictQuery, GenericAPIView[User]):
    required_scope = None
    people_only = {"POST"}
    serializer_class = SessionSerializer

    @extend_schema(
        operation_id="sign_out_everywhere",
        summary="Sign out everywhere",
        description="Ends every session, token, API key and ticket of mine, those of this request included.",
        request=None,
        responses={204: OpenApiResponse(description="Signed out.")},
    )
    def post(self, request: Request) -> Response:
        validated(NoInput, request.data)
        services.sign_out_everywhere(user=current_user(request))
        return Response(status=status.HTTP_204_NO_CONTENT)
