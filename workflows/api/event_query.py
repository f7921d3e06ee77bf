"""The query parameters of a reader of the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from uuid import UUID

from django.db.models import QuerySet
from django.http import QueryDict

from rest.errors import InvalidInputError
from rest.ids import read_uuid
from rest.query import whole
from workflows.eventlog import events
from workflows.live.hub import StreamFilter
from workflows.models import Event

LARGEST_PAGE = 1000
NARROWING = frozenset({"after", "workflow", "run", "user", "type"})


@dataclass(frozen=True, kw_only=True)
class EventQuery:
    """`after` is None if no cursor was given."""

    after: int | None
    limit: int
    workflow_id: int | None
    run_id: UUID | None
    user_id: int | None
    types: frozenset[str] | None

    @classmethod
    def parse(cls, params: QueryDict, *, last_event_id: str | None = None) -> Self:
        """Raises `InvalidInputError`, which names the parameter and what was expected."""
        types = frozenset(params.getlist("type"))
        if unknown := types - events.CATALOGUE.keys():
            expected = f"Unknown: {', '.join(sorted(unknown))}. Expected one of {', '.join(sorted(events.CATALOGUE))}."
            raise InvalidInputError({"type": [expected]})
        given_after = whole("Last-Event-ID", last_event_id) if last_event_id else whole("after", params.get("after"))
        limit = whole("limit", params.get("limit"), at_least=1, at_most=LARGEST_PAGE)
        return cls(
            after=given_after,
            limit=limit or 200,
            workflow_id=whole("workflow", params.get("workflow")),
            run_id=_uuid("run", params.get("run")),
            user_id=whole("user", params.get("user")),
            types=types or None,
        )

    def stream_filter(self) -> StreamFilter:
        """Return the same as a filter for the live hub."""
        run_id = str(self.run_id) if self.run_id else None
        return StreamFilter(user_id=self.user_id, workflow_id=self.workflow_id, run_id=run_id, types=self.types)

    def narrow(self, found: QuerySet[Event]) -> QuerySet[Event]:
        """Apply the same to a query of the table."""
        asked = {
            "workflow_id": self.workflow_id,
            "run_id": self.run_id,
            "user_id": self.user_id,
            "type__in": self.types,
            "position__gt": self.after,
        }
        return found.filter(**{name: value for name, value in asked.items() if value is not None})


def _uuid(name: str, raw: str | None) -> UUID | None:
    try:
        return read_uuid(raw) if raw is not None else None
    except ValueError as exc:
        raise InvalidInputError({name: ["Expected a UUID."]}) from exc
