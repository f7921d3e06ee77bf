"""The caller's own profile and password."""

from __future__ import annotations

from django.contrib.auth import update_session_auth_hash
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import services
from accounts.api import examples, serializers
from accounts.identity import Via
from accounts.limits import Rate
from accounts.models import User
from accounts.permissions import current_caller, current_user
from rest.query import StrictQuery


@extend_schema(tags=["auth"])
class MeView(StrictQuery, GenericAPIView[User]):
    required_scope = None
    people_only = {"PATCH"}
    follows_bounds = True
    serializer_class = serializers.ProfileSerializer

    @extend_schema(
        operation_id="get_me",
        summary="Get my profile and my scopes",
        description="The scopes are those of the credentials of this request.",
        examples=[examples.answer({**examples.USER, "scopes": ["run:control", "run:trigger", "workflow:read"]})],
        responses={200: serializers.MeSerializer},
    )
    def get(self, request: Request) -> Response:
        return self._me(current_user(request))

    @extend_schema(
        operation_id="update_me",
        summary="Change my name or address",
        description="Fields that are not sent stay.",
        examples=[examples.request({"name": "Ada King"})],
        responses={200: serializers.MeSerializer},
    )
    def patch(self, request: Request) -> Response:
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        return self._me(services.update_profile(user=current_user(request), **body.validated_data))

    def _me(self, user: User) -> Response:
        return Response(serializers.MeSerializer(user, context=self.get_serializer_context()).data)


@extend_schema(tags=["auth"])
class ChangePasswordView(StrictQuery, GenericAPIView[User]):
    required_scope = None
    people_only = {"POST"}
    rate_limit = Rate.AUTH
    serializer_class = serializers.ChangePasswordSerializer

    @extend_schema(
        operation_id="change_password",
        summary="Change my password",
        description="Ends all my other sessions and tokens. The session or sign-in of this request goes on.",
        examples=[
            examples.request({"current_password": examples.PASSWORD, "new_password": examples.NEW_PASSWORD}),
        ],
        responses={204: OpenApiResponse(description="Changed.")},
    )
    def post(self, request: Request) -> Response:
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        caller = current_caller(request)
        services.change_password(
            user=caller.user, sign_in_id=caller.sign_in_id, session_key=caller.session_key, **body.validated_data
        )
        if caller.via == Via.SESSION:
            update_session_auth_hash(request._request, caller.user)
        return Response(status=status.HTTP_204_NO_CONTENT)
