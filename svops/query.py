"""What may stand in a query string. What is not known there, or makes no sense, is an error and never ignored."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
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

from svops.errors import InvalidInputError

if TYPE_CHECKING:
    from rest_framework.views import APIView

# Of every view: which of its representations is wanted.
FORMAT = "format"
LARGEST_INTEGER = 2**63 - 1  # that a database takes
WHOLE = re.compile(r"-?[0-9]{1,19}")


def refuse_unknown(given: Iterable[str], known: Collection[str]) -> None:
    """Raises `InvalidInputError` that names each parameter that is not known here, and those that are."""
    if unknown := sorted(set(given) - set(known)):
        expected = f"Unknown parameter; expected {one_of(known)}." if known else "Unknown parameter; none is expected."
        raise InvalidInputError({name: [expected] for name in unknown})


def one_of(names: Iterable[str]) -> str:
    """For a sentence: what there is to choose from."""
    given = sorted(names)
    return given[0] if len(given) == 1 else f"one of {', '.join(given)}"


class StrictQuery:
    """Mixin of views, in front of DRF's: a parameter that the view does not know is an error.

    Known are those of the filters and the pages of a list, and what the view names beside them in
    `query_parameters`, by action or by method.
    """

    query_parameters: ClassVar[Mapping[str, Collection[str]]] = {}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)  # type: ignore[misc]  # the view's
        refuse_unknown(request.query_params.keys() - {FORMAT}, self._known(request))

    def _known(self, request: Request) -> set[str]:
        method = "GET" if request.method == "HEAD" else str(request.method)
        named = self.query_parameters.get(getattr(self, "action", None) or method, ())
        return {*named, *(_of_list(self) if method == "GET" and getattr(self, "detail", None) is False else ())}


def _of_list(view: Any) -> set[str]:
    names: set[str] = set()
    for backend in view.filter_backends:
        names |= backend().parameters(view)
    of_pages = ("page_query_param", "page_size_query_param", "cursor_query_param")
    return names | {name for option in of_pages if (name := getattr(view.paginator, option, None))}


def whole(name: str, raw: str | None, *, at_least: int = 0, at_most: int = LARGEST_INTEGER) -> int | None:
    """Reads a whole number; raises `InvalidInputError` that names the parameter and what was expected."""
    if raw is None:
        return None
    if not WHOLE.fullmatch(raw) or not at_least <= int(raw) <= at_most:
        bounds = f"{at_least} to {at_most}" if at_most < LARGEST_INTEGER else f"{at_least} or more"
        raise InvalidInputError({name: [f"Expected a whole number, {bounds}."]})
    return int(raw)


class BooleanField(forms.Field):
    """true or false; Django's own takes everything else for a third value."""

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
    """A time that the database takes too: the first and the last hours of the calendar have no name in UTC."""

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
    """Base of ours: what is wrong is said with what was expected."""

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

    def parameters(self, view: APIView) -> set[str]:
        queryset = getattr(view, "queryset", None)
        filterset = self.get_filterset_class(view, queryset)
        return set(filterset.base_filters) if filterset else set()


class Ordering(OrderingFilter):
    """By the `ordering_fields` that the view names; without any there is no such parameter."""

    def parameters(self, view: APIView) -> set[str]:
        return {self.ordering_param} if _orders_by(view) else set()

    def get_ordering(self, request: Request, queryset: models.QuerySet[Any], view: APIView) -> Sequence[str] | None:
        given = [term.strip() for term in request.query_params.get(self.ordering_param, "").split(",") if term.strip()]
        if not given:
            return self.get_default_ordering(view)
        allowed = _orders_by(view)
        if not {term.removeprefix("-") for term in given} <= set(allowed):
            expected = f"Expected {one_of(allowed)}, in the other direction with a - before it."
            raise InvalidInputError({self.ordering_param: [expected]})
        return tuple(given)

    def get_valid_fields(
        self, queryset: models.QuerySet[Any], view: APIView, context: Any = None
    ) -> list[tuple[str, str]]:
        return [(name, name) for name in _orders_by(view)]

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        if not (allowed := _orders_by(view)):
            return []
        terms = "|".join(sorted(allowed))
        return [
            {
                "name": self.ordering_param,
                "required": False,
                "in": "query",
                "description": f"By {one_of(allowed)}, or several; in the other direction with a - before it.",
                "schema": {"type": "string", "pattern": f"^-?({terms})(,-?({terms}))*$"},
            }
        ]


class Search(SearchFilter):
    def parameters(self, view: APIView) -> set[str]:
        return {self.search_param}


def _orders_by(view: APIView) -> Collection[str]:
    fields: Collection[str] = getattr(view, "ordering_fields", None) or ()
    return fields
