"""Fields that several serializers use."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

LONGEST = 250
_REFERENCE: dict[str, Any] = {
    "oneOf": [
        {"type": "integer", "format": "int64", "minimum": 1 - 2**63, "maximum": 2**63 - 1},
        {"type": "string", "minLength": 1, "maxLength": LONGEST},
    ]
}


@extend_schema_field(_REFERENCE)
class ReferenceField(serializers.Field[int | str, int | str, int | str, Any]):
    """An integer or a string, kept as it is."""

    def to_internal_value(self, data: Any) -> int | str:
        if isinstance(data, bool) or not isinstance(data, int | str):
            raise serializers.ValidationError("Expected an integer or a string.")
        if isinstance(data, str) and not 0 < len(data) <= LONGEST:
            raise serializers.ValidationError(f"Expected 1 to {LONGEST} characters.")
        if isinstance(data, int) and abs(data) >= 2**63:
            raise serializers.ValidationError("Expected an integer of at most 64 bits.")
        return data

    def to_representation(self, value: int | str) -> int | str:
        return value


class ZonedDateTimeField(serializers.DateTimeField):
    """A moment in ISO 8601 that names its zone."""

    default_error_messages = {"no_zone": "Must name its time zone, such as 2026-11-28T14:00:00Z."}

    def enforce_timezone(self, value: datetime) -> datetime:
        if value.tzinfo is None:
            self.fail("no_zone")
        return super().enforce_timezone(value)


class StringListField(serializers.ListField):
    """A list of strings."""

    child = serializers.CharField()
