"""Base classes of serializers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from rest.masking import mask
from rest.query import INCLUDE, SEVERAL, included, one_of


class StrictSerializer(serializers.Serializer[Any]):
    """Input in which an unknown field is an error: otherwise a misspelt field would be ignored."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        fields = super().get_fields()
        for field in fields.values():
            for part in (field, getattr(field, "child", None)):
                if isinstance(part, serializers.ChoiceField):
                    part.error_messages["invalid_choice"] = f"Expected {one_of(map(str, part.choices))}."
        return fields

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := data.keys() - self.fields.keys()):
            names = ", ".join(sorted(self.fields))
            expected = f"Unknown field; expected one of {names}." if names else "Unknown field; none is expected."
            raise ValidationError({name: [expected] for name in sorted(map(str, unknown))})
        return super().to_internal_value(data)


def validated(shape: type[StrictSerializer], data: object, *, partial: bool = False, **context: Any) -> Any:
    """Return the validated fields of `data`; raise DRF's `ValidationError` with the messages for each field."""
    body = shape(data=data, partial=partial, context=context)
    body.is_valid(raise_exception=True)
    return body.validated_data


class OnDemand(serializers.Serializer[Any]):
    """Mixin of the rows of a list: fields that are shown only if `?include=` names them.

    A page of rows with large fields would be many times as large as what its reader wants.
    """

    on_demand: ClassVar[Sequence[str]] = ()

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        fields = super().get_fields()
        request: Request | None = self.context.get("request")
        if request is not None and not getattr(self.context.get("view"), "swagger_fake_view", False):
            for name in set(self.on_demand) - included(request, self.on_demand):
                del fields[name]
        return fields


def include_parameter(serializer: type[OnDemand]) -> OpenApiParameter:
    """Return the description of `?include=` for a list of these rows."""
    return OpenApiParameter(
        INCLUDE,
        str,
        many=True,
        description=f"Fields to show that are left out otherwise. {SEVERAL}",
        enum=list(serializer.on_demand),
    )


class MaskedField(serializers.CharField):
    """A text that SVOps quotes from elsewhere, with its secrets masked. For answers only."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, **options)

    def to_representation(self, value: Any) -> str:
        return mask(super().to_representation(value))


class NoInput(StrictSerializer):
    """An empty body."""
