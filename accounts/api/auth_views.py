"""Registering, signing in and out, and renewing tokens."""

from __future__ import annotations

from django.contrib.auth import logout as end_session
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.exceptions import NotAuthenticated, ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import identities, oidc, services
from accounts.addresses import address_of
from accounts.api import examples, serializers
from accounts.identity import Via
from accounts.limits import Rate
from accounts.models import User
from accounts.permissions import current_caller
from rest.errors import NotAllowedError
from rest.query import StrictQuery
from rest.schema import errors


class PublicView(StrictQuery, GenericAPIView[User]):
    """Open to everybody. It ignores credentials, so an old token in the request does no harm."""

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
        operation_id="register",
        summary="Create an account",
        description="Creates an account with the role `user` and signs it in. If only administrators create "
        "accounts here: 403 `registration_closed`.",
        examples=[
            examples.request(
                {
                    "username": "ada",
                    "email": "ada@example.com",
                    "name": "Ada Lovelace",
                    "password": examples.PASSWORD,
                }
            ),
            examples.answer(examples.TOKENS, 201),
        ],
        responses={201: serializers.TokensSerializer, **errors(403)},
    )
    def post(self, request: Request) -> Response:
        body = serializers.RegisterSerializer(data=request.data)
        if not body.is_valid():
            # Whoever fills in a form learns all at once.
            raise ValidationError({**services.registration_problems(**body.right_by_itself()), **body.errors})
        return _tokens_answer(services.register(**body.validated_data), status.HTTP_201_CREATED)


@extend_schema(tags=["auth"])
class LoginView(PublicView):
    serializer_class = serializers.LoginSerializer

    @extend_schema(
        operation_id="login",
        summary="Sign in",
        description=(
            "401 `invalid_credentials` does not say whether the user exists. After several failures with one name "
            "from one address, each further try has to wait twice as long as the one before: 429 `locked_out`. Other "
            "names and addresses are not affected. 401 `second_factor_required`: the password is right, and the "
            "account needs a right `code` too."
        ),
        examples=[
            examples.request({"username": "ada", "password": examples.PASSWORD}),
            examples.answer(examples.TOKENS),
        ],
        responses={200: serializers.TokensSerializer, **errors(401)},
    )
    def post(self, request: Request) -> Response:
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        tokens = services.login(**body.validated_data, address=address_of(request._request))
        return _tokens_answer(tokens, status.HTTP_200_OK)


@extend_schema(tags=["auth"])
class SingleSignOnView(PublicView):
    serializer_class = serializers.SingleSignOnSerializer

    @extend_schema(
        operation_id="login_with_id_token",
        summary="Exchange an ID token of the identity provider for tokens",
        description=(
            "For programs that sign people in with the same OpenID Connect provider. The ID token must be signed by "
            "the issuer, issued for the client `OIDC_CLIENT_ID`, and not expired; otherwise 401 `invalid_token`. The "
            "first exchange creates the account. 409 `account_exists`: another account has the name or the address, "
            "and an administrator has to link it. 403 `account_inactive` or `identity_incomplete`; 503 "
            "`identity_provider_unavailable`; 404 if single sign-on is off."
        ),
        examples=[examples.request({"id_token": "eyJhbGciOiJSUzI1NiIs…"}), examples.answer(examples.TOKENS)],
        responses={200: serializers.TokensSerializer, **errors(401, 403, 404, 409)},
    )
    def post(self, request: Request) -> Response:
        oidc.require()
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        return _tokens_answer(identities.exchange(**body.validated_data), status.HTTP_200_OK)


@extend_schema(tags=["auth"])
class RefreshView(PublicView):
    serializer_class = serializers.RefreshSerializer

    @extend_schema(
        operation_id="refresh_tokens",
        summary="Exchange a refresh token for new tokens",
        description="Each refresh token works once. A second use ends the whole sign-in, because one of its two "
        "holders must have stolen it.",
        examples=[examples.request({"refresh_token": examples.REFRESH_TOKEN}), examples.answer(examples.TOKENS)],
        responses={200: serializers.TokensSerializer, **errors(401)},
    )
    def post(self, request: Request) -> Response:
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        return _tokens_answer(services.refresh(**body.validated_data), status.HTTP_200_OK)


@extend_schema(tags=["auth"])
class LogoutView(StrictQuery, GenericAPIView[User]):
    permission_classes = [AllowAny]
    serializer_class = serializers.LogoutSerializer

    @extend_schema(
        operation_id="logout",
        summary="Sign out",
        description="Ends the sign-in of the `refresh_token`. Without one, ends the sign-in or browser session of "
        "this request. Its tokens are refused at once.",
        examples=[examples.request({"refresh_token": examples.REFRESH_TOKEN})],
        responses={204: OpenApiResponse(description="Signed out.")},
    )
    def post(self, request: Request) -> Response:
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        if body.validated_data:
            services.logout(**body.validated_data)
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
