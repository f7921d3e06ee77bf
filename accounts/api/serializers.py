"""Requests and answers about users and sign-ins."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal

from django.contrib.auth.validators import UnicodeUsernameValidator
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.identity import Scope
from accounts.models import Role, User
from accounts.permissions import current_caller
from accounts.services import Tokens
from rest.serializers import StrictSerializer

SCOPES = [scope.value for scope in Scope]


class PasswordField(serializers.CharField):
    """Takes the password exactly as typed; no answer contains it."""

    def __init__(self, *, help_text: str | None = None) -> None:
        style = {"input_type": "password"}
        super().__init__(max_length=128, trim_whitespace=False, write_only=True, style=style, help_text=help_text)


class UsernameField(serializers.CharField):
    def __init__(self, *, help_text: str) -> None:
        super().__init__(max_length=150, validators=[UnicodeUsernameValidator()], help_text=help_text)

    def to_internal_value(self, data: Any) -> str:
        """Return the name as it is stored, so that the checks see that: normalizing can turn a letter into words."""
        return User.normalize_username(super().to_internal_value(data))


class RegisterSerializer(StrictSerializer):
    username = UsernameField(help_text="Letters, digits and @/./+/-/_ only.")
    email = serializers.EmailField(max_length=254)
    name = serializers.CharField(max_length=150, required=False, allow_blank=True, default="")
    password = PasswordField(
        help_text="At least 12 characters (`PASSWORD_MIN_LENGTH`), not all digits, not a common one."
    )

    def right_by_itself(self) -> dict[str, str]:
        """Return the fields that are right, after `is_valid` has found an error in another."""
        right: dict[str, str] = {}
        for name, field in self.fields.items():
            if isinstance(self.initial_data, dict) and name in self.initial_data:
                with suppress(serializers.ValidationError):
                    right[name] = field.run_validation(self.initial_data[name])
        return right


class LoginSerializer(StrictSerializer):
    username = serializers.CharField(max_length=150)
    password = PasswordField()
    code = serializers.CharField(
        max_length=64,
        required=False,
        allow_blank=True,
        help_text="If the account has a second factor: the code of the app, or a recovery code.",
    )


class SingleSignOnSerializer(StrictSerializer):
    id_token = serializers.CharField(max_length=16_384, trim_whitespace=False)


class RefreshSerializer(StrictSerializer):
    refresh_token = serializers.CharField(max_length=4096, trim_whitespace=False)


class LogoutSerializer(StrictSerializer):
    refresh_token = serializers.CharField(
        max_length=4096,
        trim_whitespace=False,
        required=False,
        help_text="Of the sign-in to end; by default the sign-in of this request.",
    )


class ChangePasswordSerializer(StrictSerializer):
    current_password = PasswordField()
    new_password = PasswordField()


class ProfileSerializer(StrictSerializer):
    """The fields that users may change of themselves."""

    name = serializers.CharField(max_length=150, required=False, allow_blank=True)
    email = serializers.EmailField(max_length=254, required=False)


class NewUserSerializer(RegisterSerializer):
    role = serializers.ChoiceField(choices=Role.choices, default=Role.USER)


class ChangeUserSerializer(ProfileSerializer):
    role = serializers.ChoiceField(choices=Role.choices, required=False)
    is_active = serializers.BooleanField(required=False, help_text="False deactivates the account at once.")


class UserSerializer(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields = ["id", "username", "email", "name", "role", "is_active", "date_joined", "last_login"]
        read_only_fields = fields
        # Django's own help texts are for people who fill in a form.
        extra_kwargs = {
            "username": {"help_text": ""},
            "email": {"help_text": "Empty if the user has none."},
            "is_active": {"help_text": "False for a deactivated account."},
            "last_login": {"help_text": "Null before the first sign-in."},
        }


class MeSerializer(UserSerializer):
    scopes = serializers.SerializerMethodField(help_text="The scopes of the credentials of this request.")

    class Meta(UserSerializer.Meta):
        fields = [*UserSerializer.Meta.fields, "scopes"]
        read_only_fields = fields

    @extend_schema_field(serializers.ListField(child=serializers.ChoiceField(choices=SCOPES)))
    def get_scopes(self, user: User) -> list[str]:
        return sorted(current_caller(self.context["request"]).scopes)


class TokensSerializer(serializers.Serializer[Any]):
    access_token = serializers.CharField(
        help_text="For `Authorization: Bearer …`. The claim `scopes` lists its rights."
    )
    refresh_token = serializers.CharField(help_text="Valid for one refresh.")
    token_type = serializers.SerializerMethodField()
    expires_in = serializers.IntegerField(help_text="Lifetime of the access token in seconds.")
    user = UserSerializer()

    def get_token_type(self, tokens: Tokens) -> Literal["bearer"]:
        return "bearer"
