"""The pages of the background work's schedules: those of django-celery-beat, with each change in the audit trail."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django_celery_beat import admin as beat_pages
from django_celery_beat import models as beat

from accounts import audit
from accounts.audited import Audited

for _model in (
    beat.PeriodicTask, beat.IntervalSchedule, beat.CrontabSchedule, beat.SolarSchedule, beat.ClockedSchedule,
):  # fmt: skip
    admin.site.unregister(_model)


@admin.register(beat.PeriodicTask)
class PeriodicTaskAdmin(Audited, beat_pages.PeriodicTaskAdmin):  # type: ignore[misc]  # beat has no types
    audited_as = "periodic_task"
    audited_facts = (
        "name", "task", "enabled", "interval", "crontab", "solar", "clocked", "one_off", "start_time", "expires",
        "expire_seconds", "args", "kwargs", "queue", "exchange", "routing_key", "priority", "headers", "description",
    )  # fmt: skip

    @admin.action(description="Enable selected tasks")
    def enable_tasks(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with self.recorded(queryset):
            super().enable_tasks(request, queryset)

    @admin.action(description="Disable selected tasks")
    def disable_tasks(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with self.recorded(queryset):
            super().disable_tasks(request, queryset)

    @admin.action(description="Toggle activity of selected tasks")
    def toggle_tasks(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with self.recorded(queryset):
            super().toggle_tasks(request, queryset)

    @admin.action(description="Run selected tasks")
    def run_tasks(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        # Before they start: what was started must be in the trail, even if the broker then fails.
        with transaction.atomic():
            for task in queryset:
                audit.record("periodic_task.run", task, after={"task": task.task, "args": task.args})
        super().run_tasks(request, queryset)


class _Schedule(Audited):
    audited_as = "schedule"


@admin.register(beat.IntervalSchedule)
class IntervalAdmin(_Schedule, beat_pages.IntervalScheduleAdmin):  # type: ignore[misc]
    audited_facts = ("every", "period")


@admin.register(beat.CrontabSchedule)
class CrontabAdmin(_Schedule, beat_pages.CrontabScheduleAdmin):  # type: ignore[misc]
    audited_facts = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week", "timezone")

    def facts(self, obj: Any) -> dict[str, object]:
        return super().facts(obj) | {"timezone": str(obj.timezone)}


@admin.register(beat.SolarSchedule)
class SolarAdmin(_Schedule, beat_pages.SolarScheduleAdmin):  # type: ignore[misc]
    audited_facts = ("event", "latitude", "longitude")


@admin.register(beat.ClockedSchedule)
class ClockedAdmin(_Schedule, beat_pages.ClockedScheduleAdmin):  # type: ignore[misc]
    audited_facts = ("clocked_time",)
