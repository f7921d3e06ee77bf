"""Pages of runs, at a cost that does not grow with the table, whatever a caller may see and filters by.

- Who may see every run gets the page from an index.
- For others, first the newest runs of all are read: those that the caller may see may fill the page. If they do not,
  the newest runs of each workflow that the caller may see are. Both read a bounded number of rows.
- A filter that finds few runs by itself, such as `task_id`, is answered by its index, and then come the rights.
- A search has a deadline. What it has not reached by then is the next page.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.contrib.postgres.expressions import ArraySubquery
from django.db import connection
from django.db.models import Func, OuterRef, Q, QuerySet, Subquery, UUIDField, Value
from django.db.models.functions import Coalesce
from rest_framework.pagination import Cursor, _reverse_ordering
from rest_framework.request import Request
from rest_framework.response import Response

from rest.deadlines import DeadlineError, within
from rest.pages import KeysetPages, sound_cursor
from workflows.models import Run, Workflow, WorkflowQuerySet
from workflows.states import RunState

NEWEST = 2000  # runs that are read before each workflow is asked for its own
SEARCHED = 10_000  # runs that are searched after the deadline
# With these filters, or none, many runs fit: they are read in the order of the list.
BROAD = frozenset({"state", "created_after", "created_before"})
EARLIEST, LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)

Columns = Callable[[QuerySet[Run]], QuerySet[Run, dict[str, Any]]]


class RunPages(KeysetPages):
    """`{next, previous, results}`, with `partial: true` if a search did not get through in time."""

    ordering = "-created_at"
    _searched_to: datetime | None = None

    @sound_cursor
    def page_of(
        self, runs: QuerySet[Run], *, of: WorkflowQuerySet | None, read: Columns, request: Request, view: Any
    ) -> list[Any]:
        """Return the page of those of `runs` that belong to these workflows. None stands for all workflows."""
        self._read, self._request, self._view = read, request, view
        given = request.query_params.keys() & set(view.filterset_class.base_filters)
        allowed = runs if of is None else runs.filter(workflow__in=of)
        if "search" in given:
            return self._searched(allowed)
        if of is None or not given <= BROAD or connection.vendor != "postgresql":
            return self._page(allowed)
        page = self._page(allowed.filter(self._among_newest(runs)))
        return page if self._is_full else self._page(runs.filter(pk__in=self._newest_of_each(runs, of)))

    def _page(self, runs: QuerySet[Run]) -> list[Any]:
        return super().paginate_queryset(self._read(runs), self._request, self._view) or []

    @property
    def _is_full(self) -> bool:
        """Whether there are more rows behind the page, in the direction in which it was read."""
        return bool(self.has_previous if self._is_reverse else self.has_next)

    @property
    def _is_reverse(self) -> bool:
        return bool(self.cursor and self.cursor.reverse)

    def _beyond_cursor(self, runs: QuerySet[Run]) -> QuerySet[Run]:
        """Return the runs from the cursor on, in the order in which a page is read."""
        cursor = self.decode_cursor(self._request)
        ordering = self.get_ordering(self._request, runs, self._view)
        ordering = _reverse_ordering(ordering) if cursor and cursor.reverse else ordering
        ordered = runs.order_by(*ordering)
        if cursor is None or cursor.position is None:
            return ordered
        side = "lt" if ordering[0].startswith("-") else "gt"
        return ordered.filter(**{f"created_at__{side}": cursor.position})

    def _times(self, runs: QuerySet[Run]) -> QuerySet[Run, Any]:
        """Return the query for the times of these runs from the cursor on, whoever may see them."""
        return self._beyond_cursor(runs).values_list("created_at", flat=True)

    def _up_to(self, edge: Any) -> Q:
        """Return the condition that a run is reached before `edge`, or there."""
        return Q(created_at__gte=edge) if self._goes_back else Q(created_at__lte=edge)

    @property
    def _goes_back(self) -> bool:
        first = self._beyond_cursor(Run.objects.all()).query.order_by[0]
        return str(first).startswith("-")

    def _among_newest(self, runs: QuerySet[Run]) -> Q:
        """Return the condition that a run is one of the newest of all, or of all in the state that is asked for."""
        # An index has the runs of each state but success in their order.
        of_state = self._request.query_params.getlist("state")
        in_order = runs if len(of_state) == 1 and of_state != [RunState.SUCCESS] else Run.objects.all()
        no_edge = Value(EARLIEST if self._goes_back else LATEST)
        return self._up_to(Coalesce(Subquery(self._times(in_order)[NEWEST - 1 : NEWEST]), no_edge))

    def _newest_of_each(self, runs: QuerySet[Run], of: WorkflowQuerySet) -> QuerySet[Workflow, Any]:
        """Return the query for the ids of a few runs, among which all of the page are.

        As many workflows count as the page has rows: those whose first run comes first. The first run of the last of
        them is behind the first runs of the others, so no run behind that one is on the page either.
        """
        cursor = self.decode_cursor(self._request)
        most = (cursor.offset if cursor else 0) + self.get_page_size(self._request) + 1
        beyond = self._beyond_cursor(runs)
        of_one = beyond.filter(workflow=OuterRef("pk")).values("pk")
        first_runs = of.order_by().annotate(first_run=Subquery(of_one[:1])).values("first_run")
        in_order = Run.objects.filter(pk__in=first_runs).order_by(*beyond.query.order_by)
        leading = list(in_order.values_list("workflow", "created_at")[:most])
        if len(leading) == most:
            of_one = of_one.filter(self._up_to(leading[-1][1]))
        theirs = Func(ArraySubquery(of_one[:most]), function="UNNEST", output_field=UUIDField())
        return Workflow.objects.order_by().filter(pk__in=[pk for pk, _ in leading]).values_list(theirs, flat=True)

    def _searched(self, runs: QuerySet[Run]) -> list[Any]:
        try:
            with within(settings.SEARCH_DEADLINE):
                return self._page(runs)
        except DeadlineError:
            edges = list(self._times(Run.objects.all())[SEARCHED - 1 : SEARCHED + 1])
        if len(edges) < 2:
            return self._page(runs)
        edge = edges[0]
        page = self._page(runs.filter(self._up_to(edge)))
        self._searched_to = None if self._is_full else edge
        return page

    def get_next_link(self) -> str | None:
        if self._searched_to and not self._is_reverse:
            return self._from(self._searched_to)
        return super().get_next_link()

    def get_previous_link(self) -> str | None:
        if self._searched_to and self._is_reverse:
            return self._from(self._searched_to)
        return super().get_previous_link()

    def _from(self, edge: datetime) -> str:
        return self.encode_cursor(Cursor(offset=0, reverse=self._is_reverse, position=str(edge)))  # type: ignore[arg-type]  # DRF's own are texts too

    def get_paginated_response(self, data: Any) -> Response:
        response = super().get_paginated_response(data)
        if self._searched_to:
            response.data["partial"] = True
        return response

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        page = super().get_paginated_response_schema(schema)
        told = "True if a search reached its deadline: it has not reached the runs of the next page. Otherwise absent."
        return page | {"properties": page["properties"] | {"partial": {"type": "boolean", "description": told}}}
