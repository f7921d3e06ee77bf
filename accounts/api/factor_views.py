"""The caller's own second factor."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_serializer
from rest_framework import serializers, status
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import lockout, services
from accounts.addresses import address_of
from accounts.api import examples
from accounts.api.serializers import PasswordField
from accounts.limits import Rate
from accounts.models import User
from accounts.permissions import current_caller, current_user
from rest.query import StrictQuery
from rest.schema import errors
from rest.serializers import StrictSerializer

_URI = "otpauth://totp/SVOps:ada?secret=JBSWY3DPEHPK3PXP&issuer=SVOps"


@extend_schema_serializer(component_name="BeginSecondFactor")
class BeginSerializer(StrictSerializer):
    current_password = PasswordField()


@extend_schema_serializer(component_name="ConfirmSecondFactor")
class CodeSerializer(StrictSerializer):
    code = serializers.CharField(max_length=64, help_text="The present code of the app.")


@extend_schema_serializer(component_name="PasswordAndCode")
class BothSerializer(BeginSerializer):
    code = serializers.CharField(max_length=64, help_text="The present code of the app, or a recovery code.")


class NewFactorSerializer(serializers.Serializer[Any]):
    secret = serializers.CharField(help_text="For typing into the app. Shown once.")
    uri = serializers.CharField(help_text="The same as an `otpauth:` URI, for a QR code.")


@extend_schema_serializer(component_name="NewRecoveryCodes")
class RecoveryCodesSerializer(serializers.Serializer[Any]):
    recovery_codes = serializers.ListField(child=serializers.CharField(), help_text="Each works once. Shown once.")


def _answer(body: Any, code: int) -> Response:
    return Response(body.data, status=code, headers={"Cache-Control": "no-store"})


class FactorView(StrictQuery, GenericAPIView[User]):
    required_scope = None
    people_only = {"POST"}
    rate_limit = Rate.AUTH

    def checked(self, request: Request) -> dict[str, Any]:
        """Return the body, and count the try: codes and passwords can be guessed here too."""
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        who = {"username": current_user(request).username, "address": address_of(request._request)}
        lockout.begin(**who)
        return dict(body.validated_data)

    def right(self, request: Request) -> None:
        lockout.succeed(username=current_user(request).username, address=address_of(request._request))


@extend_schema(tags=["auth"])
class BeginFactorView(FactorView):
    serializer_class = BeginSerializer

    @extend_schema(
        operation_id="begin_second_factor",
        summary="Begin to set up a second factor",
        description="Returns the secret for an authenticator app (TOTP). It counts after `confirm`. 409 "
        "`second_factor_exists`.",
        examples=[
            examples.request({"current_password": examples.PASSWORD}),
            examples.answer({"secret": "JBSWY3DPEHPK3PXP", "uri": _URI}, 201),
        ],
        responses={201: NewFactorSerializer, **errors(409)},
    )
    def post(self, request: Request) -> Response:
        new = services.begin_factor(user=current_user(request), **self.checked(request))
        self.right(request)
        return _answer(NewFactorSerializer(new), status.HTTP_201_CREATED)


@extend_schema(tags=["auth"])
class ConfirmFactorView(FactorView):
    serializer_class = CodeSerializer

    @extend_schema(
        operation_id="confirm_second_factor",
        summary="Confirm the second factor",
        description="From now on a sign-in needs a code. Ends all my other sessions and tokens. Refresh the token to "
        "get scopes that it lacked.",
        examples=[
            examples.request({"code": "492039"}),
            examples.answer({"recovery_codes": ["1f0c8a4be2-77d01c39aa"]}),
        ],
        responses={200: RecoveryCodesSerializer},
    )
    def post(self, request: Request) -> Response:
        caller = current_caller(request)
        codes = services.confirm_factor(
            user=caller.user,
            sign_in_id=caller.sign_in_id,
            session_key=caller.session_key,
            **self.checked(request),
        )
        self.right(request)
        return _answer(RecoveryCodesSerializer({"recovery_codes": codes}), status.HTTP_200_OK)


@extend_schema(tags=["auth"])
class RecoveryCodesView(FactorView):
    serializer_class = BothSerializer

    @extend_schema(
        operation_id="renew_recovery_codes",
        summary="Make new recovery codes",
        description="The old ones are not valid any more.",
        examples=[
            examples.request({"current_password": examples.PASSWORD, "code": "492039"}),
            examples.answer({"recovery_codes": ["1f0c8a4be2-77d01c39aa"]}),
        ],
        responses={200: RecoveryCodesSerializer},
    )
    def post(self, request: Request) -> Response:
        codes = services.new_recovery_codes(user=current_user(request), **self.checked(request))
        self.right(request)
        return _answer(RecoveryCodesSerializer({"recovery_codes": codes}), status.HTTP_200_OK)


@extend_schema(tags=["auth"])
class DisableFactorView(FactorView):
    serializer_class = BothSerializer

    @extend_schema(
        operation_id="disable_second_factor",
        summary="Remove my second factor",
        description="Needs the password and a code.",
        examples=[examples.request({"current_password": examples.PASSWORD, "code": "492039"})],
        responses={204: OpenApiResponse(description="Removed.")},
    )
    def post(self, request: Request) -> Response:
        services.disable_factor(user=current_user(request), **self.checked(request))
        self.right(request)
        return Response(status=status.HTTP_204_NO_CONTENT)
