"""Signing in and out, oneself, and, for admins, everybody."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import logout as end_session
from django.contrib.auth import update_session_auth_hash
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import mixins, status
from rest_framework.exceptions import NotAuthenticated
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from accounts import identities, oidc, services
from accounts.addresses import address_of
from accounts.api import serializers
from accounts.identity import Scope, Via
from accounts.limits import Rate
from accounts.models import User
from accounts.permissions import current_caller, current_user
from svops.errors import NotAllowedError
from svops.query import Filters, Ordering, Search, StrictQuery
from svops.schema import errors

_USER = {
    "id": 7,
    "username": "ada",
    "email": "ada@example.com",
    "name": "Ada Lovelace",
    "role": "user",
    "is_active": True,
    "date_joined": "2026-01-05T09:00:00Z",
    "last_login": "2026-01-05T09:00:00Z",
}
_TOKENS = {
    "access_token": "eyJhbGciOiJIUzI1NiIs…",
    "refresh_token": "eyJhbGciOiJIUzI1NiIs…",
    "token_type": "bearer",
    "expires_in": 900,
    "user": _USER,
}


def _takes(**value: Any) -> OpenApiExample:
    return OpenApiExample("Request", value=value, request_only=True)


def _answers(value: Any, code: int = 200) -> OpenApiExample:
    return OpenApiExample("Answer", value=value, response_only=True, status_codes=[str(code)])


class PublicView(StrictQuery, GenericAPIView[User]):
    """Open to anybody; credentials that come along are not looked at, so that a stale one does no harm."""

    authentication_classes = []
    permission_classes = [AllowAny]
    rate_limit = Rate.AUTH


def _tokens_answer(tokens: services.Tokens, code: int) -> Response:
    answer = Response(serializers.TokensSerializer(tokens).data, status=code)
    answer["Cache-Control"] = "no-store"
    return answer


@extend_schema(tags=["auth"])
class RegisterView(PublicView):
    serializer_class = serializers.RegisterSerializer

    @extend_schema(
        operation_id="auth_register",
        summary="Create an account",
        description="The account has the role `user` and is signed in at once. Where only administrators "
        "create accounts: 403 `registration_closed`.",
        examples=[
            _takes(username="ada", email="ada@example.com", name="Ada Lovelace", password="correct horse"),  # noqa: S106
            _answers(_TOKENS, 201),
        ],
        responses={201: serializers.TokensSerializer, **errors(403)},
    )
    def post(self, request: Request) -> Response:
        wanted = self.get_serializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        return _tokens_answer(services.register(**wanted.validated_data), status.HTTP_201_CREATED)


@extend_schema(tags=["auth"])
class LoginView(PublicView):
    serializer_class = serializers.LoginSerializer

    @extend_schema(
        operation_id="auth_login",
        summary="Sign in",
        description=(
            "401 `invalid_credentials` does not say whether the user exists. After several failures each further try "
            "has to wait, twice as long each time: 429 `locked_out`, for this name from this address alone."
        ),
        examples=[_takes(username="ada", password="correct horse"), _answers(_TOKENS)],  # noqa: S106
        responses={200: serializers.TokensSerializer, **errors(401)},
    )
    def post(self, request: Request) -> Response:
        wanted = self.get_serializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        tokens = services.login(**wanted.validated_data, address=address_of(request._request))
        return _tokens_answer(tokens, status.HTTP_200_OK)


@extend_schema(tags=["auth"])
class SingleSignOnView(PublicView):
    serializer_class = serializers.SingleSignOnSerializer

    @extend_schema(
        operation_id="auth_oidc",
        summary="Exchange an ID token of the identity provider for tokens",
        description=(
            "For programs that sign people in with the same OpenID Connect provider. The token has to be signed by the "
            "issuer, for the client `OIDC_CLIENT_ID`, and in force; else 401 `invalid_token`. The first time an "
            "account is made. 409 `account_exists`: the name or address is somebody's already, and an administrator "
            "has to link the two. 403 `account_inactive` or `identity_incomplete`; 503 "
            "`identity_provider_unavailable`; 404 where there is no single sign-on."
        ),
        examples=[_takes(id_token="eyJhbGciOiJSUzI1NiIs…"), _answers(_TOKENS)],  # noqa: S106
        responses={200: serializers.TokensSerializer, **errors(401, 403, 404, 409)},
    )
    def post(self, request: Request) -> Response:
        oidc.require()
        wanted = self.get_serializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        return _tokens_answer(identities.exchange(**wanted.validated_data), status.HTTP_200_OK)


@extend_schema(tags=["auth"])
class RefreshView(PublicView):
    serializer_class = serializers.RefreshSerializer

    @extend_schema(
        operation_id="auth_refresh",
        summary="Exchange a refresh token for new tokens",
        description="Each refresh token is good once. Presenting it again ends the whole sign-in: one of its "
        "two holders must have stolen it.",
        examples=[_takes(refresh_token=_TOKENS["refresh_token"]), _answers(_TOKENS)],
        responses={200: serializers.TokensSerializer, **errors(401)},
    )
    def post(self, request: Request) -> Response:
        wanted = self.get_serializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        return _tokens_answer(services.refresh(**wanted.validated_data), status.HTTP_200_OK)


@extend_schema(tags=["auth"])
class LogoutView(StrictQuery, GenericAPIView[User]):
    permission_classes = [AllowAny]
    serializer_class = serializers.LogoutSerializer

    @extend_schema(
        operation_id="auth_logout",
        summary="Sign out",
        description="Ends the sign-in that the `refresh_token` belongs to, or, without one, the sign-in or "
        "browser session that the request is made with. Its tokens are refused at once.",
        examples=[_takes(refresh_token=_TOKENS["refresh_token"])],
        responses={204: OpenApiResponse(description="Signed out.")},
    )
    def post(self, request: Request) -> Response:
        wanted = self.get_serializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        if wanted.validated_data:
            services.logout(**wanted.validated_data)
        elif not request.user.is_authenticated:
            raise NotAuthenticated
        else:
            _sign_out(request)
        return Response(status=status.HTTP_204_NO_CONTENT)


def _sign_out(request: Request) -> None:
    caller = current_caller(request)
    if caller.sign_in_id is not None:
        services.end_sign_in(sign_in_id=caller.sign_in_id)
    elif caller.via == Via.SESSION:
        end_session(request._request)
    else:
        raise NotAllowedError("There is no sign-in to end; revoke the API key or the ticket.")


@extend_schema(tags=["auth"])
class MeView(StrictQuery, GenericAPIView[User]):
    required_scope = None
    people_only = {"PATCH"}
    follows_bounds = True
    serializer_class = serializers.ProfileSerializer

    @extend_schema(
        operation_id="auth_me",
        summary="Who am I, and what may I do",
        examples=[_answers({**_USER, "scopes": ["run:control", "run:trigger", "workflow:read"]})],
        responses={200: serializers.MeSerializer},
    )
    def get(self, request: Request) -> Response:
        return self._me(current_user(request))

    @extend_schema(
        operation_id="auth_change_me",
        summary="Change my name or address",
        examples=[_takes(name="Ada King")],
        responses={200: serializers.MeSerializer},
    )
    def patch(self, request: Request) -> Response:
        wanted = self.get_serializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        return self._me(services.update_profile(user=current_user(request), **wanted.validated_data))

    def _me(self, user: User) -> Response:
        return Response(serializers.MeSerializer(user, context=self.get_serializer_context()).data)


@extend_schema(tags=["auth"])
class ChangePasswordView(StrictQuery, GenericAPIView[User]):
    required_scope = None
    people_only = {"POST"}
    rate_limit = Rate.AUTH
    serializer_class = serializers.ChangePasswordSerializer

    @extend_schema(
        operation_id="auth_change_password",
        summary="Change my password",
        description="Every other session and token of mine ends; the one that asks goes on.",
        examples=[_takes(current_password="correct horse", new_password="battery staple")],  # noqa: S106
        responses={204: OpenApiResponse(description="Changed.")},
    )
    def post(self, request: Request) -> Response:
        wanted = self.get_serializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        caller = current_caller(request)
        services.change_password(user=caller.user, sign_in_id=caller.sign_in_id, **wanted.validated_data)
        if caller.via == Via.SESSION:
            update_session_auth_hash(request._request, caller.user)
        return Response(status=status.HTTP_204_NO_CONTENT)


@extend_schema(tags=["users"])
@extend_schema_view(
    list=extend_schema(
        summary="List users",
        description="Needs `user:admin`. `search` looks in name, username and address.",
        responses={200: serializers.UserSerializer(many=True)},
    ),
    retrieve=extend_schema(
        summary="Get a user",
        description="Needs `user:admin`.",
        examples=[_answers(_USER)],
        responses={200: serializers.UserSerializer},
    ),
)
class UserViewSet(StrictQuery, mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[User]):
    queryset = User.objects.all()
    serializer_class = serializers.UserSerializer
    required_scope = Scope.USER_ADMIN
    lookup_value_converter = "int"
    filter_backends = [Filters, Ordering, Search]
    filterset_fields = ["role", "is_active"]
    search_fields = ["username", "email", "name"]
    ordering_fields = ["id", "username", "email", "role", "date_joined", "last_login"]

    @extend_schema(
        summary="Create a user",
        description="Needs `user:admin`.",
        request=serializers.NewUserSerializer,
        examples=[
            _takes(username="ada", email="ada@example.com", password="correct horse", role="viewer"),  # noqa: S106
            _answers(_USER, 201),
        ],
        responses={201: serializers.UserSerializer},
    )
    def create(self, request: Request) -> Response:
        wanted = serializers.NewUserSerializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        user = services.create_user(**wanted.validated_data)
        return Response(self.get_serializer(user).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Change a user",
        description="Needs `user:admin`. A new role counts from the next request on, with the tokens that "
        "exist; `is_active: false` ends every token and session. The last active administrator can be "
        "neither demoted nor shut out: 409 `last_admin`.",
        request=serializers.ChangeUserSerializer,
        examples=[_takes(role="viewer"), _answers(_USER)],
        responses={200: serializers.UserSerializer, **errors(409)},
    )
    def partial_update(self, request: Request, pk: int) -> Response:
        user = self.get_object()
        wanted = serializers.ChangeUserSerializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        user = services.update_user(user=user, **wanted.validated_data)
        return Response(self.get_serializer(user).data)
