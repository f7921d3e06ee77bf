"""Lists of tables that grow without bound: newest first, paged by keyset, and nothing is counted.

Django's own list counts all rows, sorts them by any column, skips those of the pages before, and looks through all of
them for the dates and the workflows to filter by.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from workflows.admin.pages import ReadOnlyPages

BEHIND = "behind"  # the id of the last row of the page before


class LinkedFilter(admin.RelatedFieldListFilter):
    """Shows the one object that a link has chosen: a choice of all of them would be as long as their table."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> Any:
        chosen = field.related_model._default_manager.filter(pk__in=self.lookup_val or ())
        return [(row.pk, str(row)) for row in chosen]

    def has_output(self) -> bool:
        return bool(self.lookup_val)


class NewestFirst(ChangeList):
    """One page of the list, and the link to the rows behind it."""

    older = ""
    about: int | None = None

    def __init__(self, request: HttpRequest, *args: Any, **options: Any) -> None:
        self.behind = request.GET.get(BEHIND)
        super().__init__(request, *args, **options)

    def get_filters_params(self, params: Any = None) -> Any:
        return {name: value for name, value in super().get_filters_params(params).items() if name != BEHIND}

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        return [*(self.model_admin.ordering or self.opts.ordering or ())]

    def get_results(self, request: HttpRequest) -> None:
        found = list(self._older(request)[: self.list_per_page + 1])
        self.result_list: Any = found[: self.list_per_page]
        self.result_count = self.full_result_count = len(self.result_list)
        self.show_full_result_count = self.can_show_all = self.multi_page = False
        self.show_admin_actions = bool(self.result_list)
        self.paginator: Any = Paginator(self.result_list, self.list_per_page)
        if len(found) > self.list_per_page:
            self.older = self.get_query_string({BEHIND: self.result_list[-1].pk})
        self.newest = self.get_query_string(remove=[BEHIND]) if self.behind else ""
        self.about = None if self.has_active_filters or self.query else estimated(self.opts.db_table)

    def _older(self, request: HttpRequest) -> Any:
        """Return the rows behind the last one of the page before."""
        last = self.model_admin.get_object(request, self.behind) if self.behind else None
        if last is None:
            return self.queryset.none() if self.behind else self.queryset
        first, *_ = (name.removeprefix("-") for name in self.get_ordering(request, self.queryset))
        value = getattr(last, first)
        behind = Q(**{f"{first}__lt": value}) | Q(**{first: value, "pk__lt": last.pk})
        # An index can use this condition, but not the other one, which says more.
        return self.queryset.filter(behind, **{f"{first}__lte": value})


class NewestFirstPages(ReadOnlyPages):
    """Base of the pages of such a table. `ordering` is newest first, by a time and the id or by the id alone."""

    change_list_template = "admin/workflows/newest.html"
    sortable_by: ClassVar[tuple[str, ...]] = ()

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[ChangeList]:
        return NewestFirst


def estimated(table: str) -> int | None:
    """Return how many rows the database believes that the table has; None if it has not looked yet."""
    if connection.vendor != "postgresql":
        return None
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [table])
        rows = int(cursor.fetchone()[0])
    return rows if rows >= 0 else None
