"""The audit trail: listing it, and exporting it as CSV or as lines of JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import django_filters
from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_serializer, extend_schema_view
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.viewsets import GenericViewSet

from accounts import audit
from accounts.identity import Scope, Via
from accounts.models import AuditEntry
from rest.filters import FilterSet, MomentFilter
from rest.pages import KeysetPages
from rest.query import StrictQuery
from rest.times import iso

FIELDS = ["id", "position", *AuditEntry.SEALED, "hash"]
# A spreadsheet reads a cell that begins like this as a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


WAYS_IN = [*map(str, Via), audit.COMMAND, audit.NOBODY]


@extend_schema_serializer(component_name="AuditEntry")
class AuditSerializer(serializers.ModelSerializer[AuditEntry]):
    via = serializers.ChoiceField(
        choices=WAYS_IN,
        help_text="How the actor came in; `none` if nobody was signed in.",
    )
    before = serializers.DictField(allow_null=True, help_text="The changed facts as they were.")
    after = serializers.DictField(allow_null=True, help_text="The changed facts as they are now, or those of the act.")

    class Meta:
        model = AuditEntry
        fields = FIELDS
        read_only_fields = fields


class AuditFilter(FilterSet):
    actor = django_filters.CharFilter(help_text="Username.")
    action = django_filters.CharFilter(
        help_text="For example `workflow.changed`. `workflow.` finds all actions with this prefix.", method="by_action"
    )
    via = django_filters.ChoiceFilter(choices=[(way, way) for way in WAYS_IN])
    since = MomentFilter("at", "gte")
    until = MomentFilter("at", "lt")

    class Meta:
        model = AuditEntry
        fields = ["actor", "action", "object_type", "object_id", "address", "request_id"]

    def by_action(self, found: QuerySet[AuditEntry], name: str, value: str) -> QuerySet[AuditEntry]:
        return found.filter(action__startswith=value) if value.endswith(".") else found.filter(action=value)


class AuditPages(KeysetPages):
    ordering = "-id"


@extend_schema(tags=["audit"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_audit_entries",
        summary="List the audit trail",
        description="Needs `audit:read`. Newest first, in keyset pages.",
        responses={200: AuditSerializer},
    )
)
class AuditViewSet(StrictQuery, mixins.ListModelMixin, GenericViewSet[AuditEntry]):
    queryset = AuditEntry.objects.all()
    serializer_class = AuditSerializer
    pagination_class = AuditPages
    required_scope = Scope.AUDIT_READ
    filterset_class = AuditFilter
    ordering_fields = ["id", "at"]
    query_parameters = {"export": {"as"}}

    @extend_schema(
        operation_id="export_audit",
        summary="Export the audit trail",
        description="Needs `audit:read`. Oldest first, with the filters of the list. `as=csv`, or `as=jsonl` for one "
        "line of JSON per row.",
        parameters=[OpenApiParameter("as", str, enum=["csv", "jsonl"], description="The default is jsonl.")],
        responses={
            (200, "application/jsonl"): OpenApiTypes.STR,
            (200, "text/csv"): OpenApiTypes.STR,
        },
    )
    @action(detail=False, pagination_class=None)
    def export(self, request: Request) -> StreamingHttpResponse:
        kind = request.query_params.get("as", "jsonl")
        if kind not in EXPORTS:
            raise serializers.ValidationError({"as": ["Expected csv or jsonl."]})
        rows = self.filter_queryset(self.get_queryset()).order_by("id").values(*FIELDS).iterator(chunk_size=1000)
        content_type, lines = EXPORTS[kind]
        disposition = f'attachment; filename="audit.{kind}"'
        return StreamingHttpResponse(
            lines(rows), content_type=content_type, headers={"Content-Disposition": disposition}
        )


def _jsonl(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield json.dumps(row | {"at": iso(row["at"])}) + "\n"


class _Line:
    """A file for a CSV writer that returns each line."""

    def write(self, line: str) -> str:
        return line


def _csv(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    writer = csv.writer(_Line())
    yield writer.writerow(FIELDS)
    for row in rows:
        yield writer.writerow([_cell(row[name]) for name in FIELDS])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return json.dumps(value)
    text = iso(value) if isinstance(value, datetime) else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


EXPORTS = {"csv": ("text/csv; charset=utf-8", _csv), "jsonl": ("application/jsonl; charset=utf-8", _jsonl)}
