"""Requests and answers about API keys."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from accounts.api.serializers import SCOPES
from accounts.models import ApiKey
from rest.query import LARGEST_INTEGER
from rest.schema import ErrorSerializer
from rest.serializers import StrictSerializer


class NewApiKeySerializer(StrictSerializer):
    name = serializers.CharField(max_length=200, help_text="What the key is for, to recognise it in the list.")
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=SCOPES),
        allow_empty=False,
        help_text="Only scopes that you have.",
    )
    workflow_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=LARGEST_INTEGER),
        required=False,
        allow_null=True,
        allow_empty=False,
        max_length=1000,
        help_text="The key is valid for these workflows only; by default for all that you can see.",
    )
    expires_at = serializers.DateTimeField(required=False, allow_null=True, help_text="By default it does not expire.")


class TooManyKeysSerializer(ErrorSerializer):
    """Why there is no further key."""

    limit = serializers.IntegerField(required=False, help_text="How many valid keys a user may have.")


@extend_schema_serializer(component_name="RotateApiKey")
class RotateSerializer(StrictSerializer):
    grace_seconds = serializers.IntegerField(
        min_value=0, max_value=7 * 86400, default=86400, help_text="How long the old secret stays valid."
    )


class ApiKeySerializer(serializers.ModelSerializer[ApiKey]):
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=SCOPES))
    workflow_ids = serializers.ListField(
        child=serializers.IntegerField(), allow_null=True, help_text="Null: valid for all workflows of the user."
    )

    class Meta:
        model = ApiKey
        fields = [
            "id", "name", "prefix", "scopes", "workflow_ids", "created_at", "expires_at", "last_used_at",
            "previous_until", "revoked_at",
        ]  # fmt: skip
        read_only_fields = fields


class ShownApiKeySerializer(ApiKeySerializer):
    key = serializers.SerializerMethodField(help_text="Only this answer contains it.")

    class Meta(ApiKeySerializer.Meta):
        fields = [*ApiKeySerializer.Meta.fields, "key"]
        read_only_fields = fields

    def get_key(self, api_key: ApiKey) -> str:
        return str(self.context["key"])
