"""What the accounts API takes and what it answers."""

from __future__ import annotations

from typing import Any, Literal

from django.contrib.auth.validators import UnicodeUsernameValidator
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.identity import Scope
from accounts.models import ApiKey, Role, User
from accounts.permissions import current_caller
from accounts.services import Tokens
from svops.api import StrictSerializer
from svops.query import LARGEST_INTEGER


class PasswordField(serializers.CharField):
    """Taken as it is typed, and never answered."""

    def __init__(self, **kwargs: Any) -> None:
        style = {"input_type": "password"}
        super().__init__(max_length=128, trim_whitespace=False, write_only=True, style=style, **kwargs)


class UsernameField(serializers.CharField):
    def __init__(self, **kwargs: Any) -> None:
        validators = [UnicodeUsernameValidator()]
        super().__init__(max_length=150, validators=validators, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        """As it is stored, so that this is what is checked: one letter can become several words."""
        return User.normalize_username(super().to_internal_value(data))


class RegisterSerializer(StrictSerializer):
    username = UsernameField(help_text="Letters, digits and @/./+/-/_ only.")
    email = serializers.EmailField(max_length=254)
    name = serializers.CharField(max_length=150, required=False, allow_blank=True, default="")
    password = PasswordField(help_text="At least 8 characters, not all digits, not a common one.")


class LoginSerializer(StrictSerializer):
    username = serializers.CharField(max_length=150)
    password = PasswordField()


class SingleSignOnSerializer(StrictSerializer):
    id_token = serializers.CharField(max_length=16_384, trim_whitespace=False)


class RefreshSerializer(StrictSerializer):
    refresh_token = serializers.CharField(max_length=4096, trim_whitespace=False)


class LogoutSerializer(StrictSerializer):
    refresh_token = serializers.CharField(
        max_length=4096,
        trim_whitespace=False,
        required=False,
        help_text="Whose sign-in to end; without it, the one that this request is made with.",
    )


class ChangePasswordSerializer(StrictSerializer):
    current_password = PasswordField()
    new_password = PasswordField()


class ProfileSerializer(StrictSerializer):
    """What one may change of oneself."""

    name = serializers.CharField(max_length=150, required=False, allow_blank=True)
    email = serializers.EmailField(max_length=254, required=False)


class NewUserSerializer(RegisterSerializer):
    role = serializers.ChoiceField(choices=Role.choices, default=Role.USER)


class ChangeUserSerializer(ProfileSerializer):
    role = serializers.ChoiceField(choices=Role.choices, required=False)
    is_active = serializers.BooleanField(required=False, help_text="False shuts the account at once.")


class UserSerializer(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields = ["id", "username", "email", "name", "role", "is_active", "date_joined", "last_login"]
        read_only_fields = fields


class MeSerializer(UserSerializer):
    scopes = serializers.SerializerMethodField(help_text="What this request's credentials may do.")

    class Meta(UserSerializer.Meta):
        fields = [*UserSerializer.Meta.fields, "scopes"]
        read_only_fields = fields

    @extend_schema_field(serializers.ListField(child=serializers.ChoiceField(choices=list(map(str, Scope)))))
    def get_scopes(self, user: User) -> list[str]:
        return sorted(current_caller(self.context["request"]).scopes)


class TokensSerializer(serializers.Serializer[Any]):
    access_token = serializers.CharField(help_text="For `Authorization: Bearer …`; its claim `scopes` says what for.")
    refresh_token = serializers.CharField(help_text="Good for one refresh.")
    token_type = serializers.SerializerMethodField()
    expires_in = serializers.IntegerField(help_text="Seconds that the access token lives.")
    user = UserSerializer()

    def get_token_type(self, tokens: Tokens) -> Literal["bearer"]:
        return "bearer"


SCOPES = [scope.value for scope in Scope]


class NewApiKeySerializer(StrictSerializer):
    name = serializers.CharField(max_length=200, help_text="What it is for, for the list.")
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=SCOPES), allow_empty=False, help_text="Of those that you hold yourself."
    )
    workflow_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=LARGEST_INTEGER),
        required=False,
        allow_null=True,
        allow_empty=False,
        max_length=1000,
        help_text="For these workflows alone; else for all that you may see.",
    )
    expires_at = serializers.DateTimeField(required=False, allow_null=True, help_text="Else it does not expire.")


class RotateSerializer(StrictSerializer):
    grace_seconds = serializers.IntegerField(
        min_value=0, max_value=7 * 86400, default=86400, help_text="For so long the secret before is good too."
    )


class ApiKeySerializer(serializers.ModelSerializer[ApiKey]):
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=SCOPES))
    workflow_ids = serializers.ListField(child=serializers.IntegerField(), allow_null=True)

    class Meta:
        model = ApiKey
        fields = [
            "id", "name", "prefix", "scopes", "workflow_ids", "created_at", "expires_at", "last_used_at",
            "previous_until", "revoked_at",
        ]  # fmt: skip
        read_only_fields = fields


class ShownApiKeySerializer(ApiKeySerializer):
    key = serializers.SerializerMethodField(help_text="Shown in this answer and never again.")

    class Meta(ApiKeySerializer.Meta):
        fields = [*ApiKeySerializer.Meta.fields, "key"]
        read_only_fields = fields

    def get_key(self, api_key: ApiKey) -> str:
        return str(self.context["key"])
