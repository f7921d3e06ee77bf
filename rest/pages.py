"""The two kinds of pages of a list: by number, and by keyset."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from django.core.exceptions import ValidationError as DjangoValidationError
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination, PageNumberPagination
from rest_framework.request import Request

from rest.errors import InvalidInputError
from rest.query import whole

LARGEST_PAGE = 200
P = ParamSpec("P")
T = TypeVar("T")


class StrictPages:
    """Mixin of both kinds: refuses a size or a page that is not a number, and caps a size that is too large."""

    page_size: int | None = 50
    page_size_query_param: str | None = "page_size"

    def get_page_size(self, request: Request) -> int:
        given = whole("page_size", request.query_params.get("page_size"), at_least=1)
        return min(given or self.page_size or LARGEST_PAGE, LARGEST_PAGE)

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        parameters: list[dict[str, Any]] = super().get_schema_operation_parameters(view)  # type: ignore[misc]  # DRF's
        for parameter in parameters:
            if parameter["schema"]["type"] == "integer":
                parameter["schema"]["minimum"] = 1
        return parameters

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        page: dict[str, Any] = super().get_paginated_response_schema(schema)  # type: ignore[misc]  # DRF's
        for link in ("next", "previous"):
            # The library's own are of other sites, and one is no URI.
            page["properties"][link]["example"] = "https://svops.example.com/api/v1/runs?cursor=cD0y"
        return page | {"required": list(page["properties"])}


class Pages(StrictPages, PageNumberPagination):
    """`{count, next, previous, results}`; `?page_size=` up to 200."""

    def get_page_number(self, request: Request, paginator: Any) -> int | str:
        given = request.query_params.get("page")
        if given in self.last_page_strings:
            return super().get_page_number(request, paginator)
        return whole("page", given, at_least=1) or 1


def sound_cursor(read: Callable[P, T]) -> Callable[P, T]:
    """Raise `InvalidInputError` for a cursor that makes no sense.

    DRF does not check the content of a cursor: the database is the first to notice.
    """

    @wraps(read)
    def checked(*args: P.args, **options: P.kwargs) -> T:
        try:
            return read(*args, **options)
        except (NotFound, ValueError, DjangoValidationError) as exc:
            raise InvalidInputError({"cursor": ["Expected the cursor of a next or previous link."]}) from exc

    return checked


class KeysetPages(StrictPages, CursorPagination):
    """`{next, previous, results}`, for tables that grow without bound: no count, no offset."""

    def get_ordering(self, request: Request, queryset: Any, view: Any) -> tuple[str, ...]:
        ordering = super().get_ordering(request, queryset, view)
        # Rows with equal values keep one order from page to page.
        return (*ordering, "-id" if ordering[0].startswith("-") else "id")

    @sound_cursor
    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        return super().paginate_queryset(queryset, request, view)
