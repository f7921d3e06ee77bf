"""Filters, order and search of lists; a value that makes no sense is an error."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import django_filters
from django import forms
from django.db import models
from django_filters.fields import IsoDateTimeField
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.request import Request

from rest.errors import InvalidInputError
from rest.query import SEVERAL, one_of, terms

if TYPE_CHECKING:
    from rest_framework.views import APIView


class BooleanField(forms.Field):
    """true or false; Django's own field reads anything else as a third value."""

    widget = forms.Select(choices=[("", "---------"), ("true", "true"), ("false", "false")])
    words: ClassVar[Mapping[str, bool]] = {"true": True, "1": True, "false": False, "0": False}

    def to_python(self, value: Any) -> bool | None:
        if value in self.empty_values:
            return None
        if (word := str(value).lower()) not in self.words:
            raise forms.ValidationError("Expected true or false.")
        return self.words[word]


class BooleanFilter(django_filters.BooleanFilter):
    field_class = BooleanField  # type: ignore[assignment]  # another kind of field


class MomentField(IsoDateTimeField):
    """A time that exists in UTC: the first and the last hours of the calendar do not."""

    default_error_messages: ClassVar[dict[str, Any]] = {"invalid": "Expected a time, as 2026-03-01T12:00:00Z."}

    def clean(self, value: Any) -> datetime | None:
        moment: datetime | None = super().clean(value)
        try:
            return moment.astimezone(UTC) if moment else None
        except OverflowError as exc:
            raise forms.ValidationError(self.error_messages["invalid"]) from exc


class MomentFilter(django_filters.IsoDateTimeFilter):
    field_class = MomentField


class FilterSet(django_filters.FilterSet):
    """Base of our filters: an error says what was expected."""

    FILTER_DEFAULTS = deepcopy(django_filters.FilterSet.FILTER_DEFAULTS) | {
        models.BooleanField: {"filter_class": BooleanFilter},
        models.DateTimeField: {"filter_class": MomentFilter},
    }

    def get_form_class(self) -> type[forms.Form]:
        form: type[forms.Form] = super().get_form_class()
        for field in form.base_fields.values():
            if isinstance(field, forms.ChoiceField):
                offered: Any = field.choices
                choices = (str(value) for value, _ in offered if value != "")
                field.error_messages["invalid_choice"] = f"Expected {one_of(choices)}."
        return form


class Filters(DjangoFilterBackend):
    filterset_base = FilterSet

    def filter_queryset(self, request: Any, queryset: models.QuerySet[Any], view: APIView) -> models.QuerySet[Any]:
        # Without a parameter of its own, a set of filters makes a form for nothing.
        if self.parameters(view).isdisjoint(request.query_params):
            return queryset
        found: models.QuerySet[Any] = super().filter_queryset(request, queryset, view)
        return found

    def parameters(self, view: APIView) -> set[str]:
        queryset = getattr(view, "queryset", None)
        filterset = self.get_filterset_class(view, queryset)
        return set(filterset.base_filters) if filterset else set()


class Ordering(OrderingFilter):
    """Orders by the view's `ordering_fields`; a view without any has no such parameter."""

    def parameters(self, view: APIView) -> set[str]:
        return {self.ordering_param} if _orders_by(view) else set()

    def get_ordering(self, request: Request, queryset: models.QuerySet[Any], view: APIView) -> Sequence[str] | None:
        given = terms(request, self.ordering_param)
        if not given:
            return self.get_default_ordering(view)
        allowed = _orders_by(view)
        if not {term.removeprefix("-") for term in given} <= set(allowed):
            expected = f"Expected {one_of(allowed)}; a - before it reverses the order."
            raise InvalidInputError({self.ordering_param: [expected]})
        return tuple(dict.fromkeys(given))

    def get_valid_fields(
        self, queryset: models.QuerySet[Any], view: APIView, context: Any = None
    ) -> list[tuple[str, str]]:
        return [(name, name) for name in _orders_by(view)]

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        if not (allowed := _orders_by(view)):
            return []
        names = [sign + name for name in sorted(allowed) for sign in ("", "-")]
        return [
            {
                "name": self.ordering_param,
                "required": False,
                "in": "query",
                "description": f"Order by {one_of(allowed)}; a - before it reverses the order. {SEVERAL}",
                "schema": {"type": "array", "items": {"type": "string", "enum": names}},
            }
        ]


class Search(SearchFilter):
    def parameters(self, view: APIView) -> set[str]:
        return {self.search_param}


def _orders_by(view: APIView) -> Collection[str]:
    fields: Collection[str] = getattr(view, "ordering_fields", None) or ()
    return fields
