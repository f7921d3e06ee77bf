"""The query parameters that filter the lists."""

from __future__ import annotations

import django_filters

from notifications.models import Delivery, Kind, NotificationConfig, Status
from notifications.transports import OFFERED
from rest.filters import FilterSet, MomentFilter
from workflows.api.filters import IdFilter


class ConfigFilter(FilterSet):
    channel = django_filters.ChoiceFilter(choices=[(name, t.label) for name, t in OFFERED.items()])

    class Meta:
        model = NotificationConfig
        fields = ["enabled"]


class DeliveryFilter(FilterSet):
    config = IdFilter(field_name="config_id")
    run = django_filters.UUIDFilter(field_name="event__run_id")
    workflow = IdFilter(field_name="event__workflow_id")
    status = django_filters.MultipleChoiceFilter(choices=Status.choices, label="May be given several times")
    kind = django_filters.MultipleChoiceFilter(choices=Kind.choices, label="May be given several times")
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = Delivery
        fields: list[str] = []
