"""The caller's own API keys."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from accounts import api_keys
from accounts.api import examples
from accounts.api.key_serializers import (
    ApiKeySerializer,
    NewApiKeySerializer,
    RotateSerializer,
    ShownApiKeySerializer,
    TooManyKeysSerializer,
)
from accounts.models import ApiKey
from accounts.permissions import current_caller, current_user
from rest.query import StrictQuery
from rest.schema import errors

_REQUEST = {
    "name": "Nightly import",
    "scopes": ["workflow:read", "run:trigger"],
    "workflow_ids": [3],
    "expires_at": "2027-01-01T00:00:00Z",
}
_SHOWN = {
    "id": 12,
    **_REQUEST,
    "prefix": "9f2c41d07ab3",
    "created_at": "2026-01-05T09:00:00Z",
    "last_used_at": None,
    "previous_until": None,
    "revoked_at": None,
    "key": "svops_9f2c41d07ab3_…",
}


def _shown(new: api_keys.NewKey, code: int) -> Response:
    answer = Response(ShownApiKeySerializer(new.api_key, context={"key": new.text}).data, status=code)
    answer["Cache-Control"] = "no-store"
    return answer


@extend_schema(tags=["api-keys"])
@extend_schema_view(
    list=extend_schema(
        summary="List my API keys",
        description="Revoked and expired keys are listed too.",
        responses={200: ApiKeySerializer(many=True)},
    ),
    retrieve=extend_schema(
        summary="Get an API key",
        description="One of my keys, without its secret.",
        responses={200: ApiKeySerializer},
    ),
)
class ApiKeyViewSet(StrictQuery, mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[ApiKey]):
    serializer_class = ApiKeySerializer
    required_scope = None
    # A key that could create keys would outlive its own revocation.
    people_only = {"GET", "POST", "DELETE"}
    lookup_value_converter = "int"
    filter_backends = []

    def get_queryset(self) -> QuerySet[ApiKey]:
        if getattr(self, "swagger_fake_view", False):
            return ApiKey.objects.none()
        return ApiKey.objects.filter(user=current_user(self.request))

    @extend_schema(
        summary="Create an API key",
        description=(
            "For a program that acts for you, with at most these scopes and never with more than you have when the "
            "key is used. Send it as `Authorization: Bearer <key>`, on streams too. All your keys share your "
            "rate limit. 409 `too_many_keys` if you have as many valid keys as one user may have."
        ),
        request=NewApiKeySerializer,
        examples=[examples.request(_REQUEST), examples.answer(_SHOWN, 201)],
        responses={201: ShownApiKeySerializer, **errors(409, shape=TooManyKeysSerializer)},
    )
    def create(self, request: Request) -> Response:
        body = NewApiKeySerializer(data=request.data)
        body.is_valid(raise_exception=True)
        new = api_keys.create_key(caller=current_caller(request), **body.validated_data)
        return _shown(new, status.HTTP_201_CREATED)

    @extend_schema(
        summary="Rotate an API key",
        description="Gives the key a new secret. The old one stays valid for `grace_seconds`. 409 for a key that was "
        "revoked or has expired.",
        request=RotateSerializer,
        responses={200: ShownApiKeySerializer, **errors(409)},
    )
    @action(detail=True, methods=["post"])
    def rotate(self, request: Request, pk: int) -> Response:
        api_key = self.get_object()
        body = RotateSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        grace = timedelta(seconds=body.validated_data["grace_seconds"])
        return _shown(api_keys.rotate_key(api_key=api_key, grace=grace), status.HTTP_200_OK)

    @extend_schema(
        summary="Revoke an API key",
        description="Ends the key and the tickets that it issued at once. The list keeps the key.",
        responses={204: None},
    )
    def destroy(self, request: Request, pk: int) -> Response:
        api_keys.revoke_key(api_key=self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)
