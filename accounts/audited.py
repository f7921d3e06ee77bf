"""Admin pages for models of other packages, which no service writes. Each change is in the audit trail."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from accounts import audit

if TYPE_CHECKING:
    ModelPages = admin.ModelAdmin[Any]
else:
    ModelPages = admin.ModelAdmin


class Audited(ModelPages):
    """Records `<audited_as>.created`, `.changed` and `.deleted`, with `audited_facts` before and after."""

    audited_as = ""
    audited_facts: tuple[str, ...] = ()

    def facts(self, obj: Model) -> dict[str, object]:
        values = audit.facts_of(obj, self.audited_facts)
        return {name: str(value) if isinstance(value, Model) else value for name, value in values.items()}

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        with transaction.atomic():
            before = self.facts(self.model._default_manager.get(pk=obj.pk)) if change else None
            super().save_model(request, obj, form, change)
            self.record_change(obj, before)

    def record_change(self, obj: Any, before: dict[str, object] | None) -> None:
        after = self.facts(obj)
        if before is None:
            audit.record(f"{self.audited_as}.created", obj, after=after)
            return
        old, new = audit.changes(before, after)
        if new:
            audit.record(f"{self.audited_as}.changed", obj, before=old, after=new)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with transaction.atomic():
            before = self.facts(obj) | audit.removed_with(obj)
            audit.record(f"{self.audited_as}.deleted", obj, before=before)
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with transaction.atomic():
            for obj in queryset:
                self.delete_model(request, obj)

    def recorded(self, rows: Iterable[Any]) -> _Recorded:
        """Record what an action of the page changes in these rows."""
        return _Recorded(self, [row.pk for row in rows])


class _Recorded:
    """A transaction; at its end each changed row is in the trail."""

    def __init__(self, pages: Audited, pks: list[object]) -> None:
        self._pages, self._pks = pages, pks
        self._transaction = transaction.atomic()

    def _rows(self) -> QuerySet[Any]:
        rows: QuerySet[Any] = self._pages.model._default_manager.filter(pk__in=self._pks).order_by("pk")
        return rows

    def __enter__(self) -> None:
        self._transaction.__enter__()
        self._before = {row.pk: self._pages.facts(row) for row in self._rows()}

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if error is None:
                for row in self._rows():
                    self._pages.record_change(row, self._before[row.pk])
        finally:
            self._transaction.__exit__(kind, error, trace)
