"""What lists can be narrowed by."""

from __future__ import annotations

import re
from functools import reduce
from operator import or_
from typing import Any

import django_filters
from django.db.models import Q, QuerySet

from svops.query import LARGEST_INTEGER, FilterSet, MomentFilter
from workflows.models import Dag, Run, Visibility, Workflow
from workflows.states import RunState


class IdFilter(django_filters.NumberFilter):
    """Matches an id; what no database takes for one is an error."""

    def __init__(self, **options: Any) -> None:
        super().__init__(min_value=0, max_value=LARGEST_INTEGER, decimal_places=0, **options)


class DagFilter(FilterSet):
    tag = django_filters.CharFilter(method="by_tag", label="Has this tag")
    search = django_filters.CharFilter(field_name="dag_id", lookup_expr="icontains", label="Part of the dag_id")

    class Meta:
        model = Dag
        fields = ["is_paused", "is_present"]

    def by_tag(self, dags: QuerySet[Dag], name: str, value: str) -> QuerySet[Dag]:
        # Membership in a JSON list is not portable; the number of DAGs is small.
        return dags.filter(pk__in=[dag.pk for dag in dags if value in dag.tags])


class WorkflowFilter(FilterSet):
    dag_id = django_filters.CharFilter(field_name="dag__dag_id")
    # A number and no choice: the browsable page would offer every user to everybody.
    owner = IdFilter(field_name="owner_id")
    visibility = django_filters.ChoiceFilter(choices=Visibility.choices)
    search = django_filters.CharFilter(field_name="name", lookup_expr="icontains", label="Part of the name")

    class Meta:
        model = Workflow
        fields = ["is_active"]


class ReferenceFilter(django_filters.CharFilter):
    """Matches the caller's reference whether it was given as a string or as an integer."""

    def filter(self, qs: QuerySet[Any], value: str | None) -> QuerySet[Any]:
        if not value:
            return qs
        forms: list[int | str] = [value]
        if re.fullmatch(r"-?[0-9]{1,19}", value):
            forms.append(int(value))
        return qs.filter(**{f"{self.field_name}__in": forms})


class RunFilter(FilterSet):
    state = django_filters.MultipleChoiceFilter(choices=RunState.choices, label="May be given several times")
    workflow = IdFilter(field_name="workflow_id")
    dag_id = django_filters.CharFilter()
    user = IdFilter(field_name="user_id")
    task_id = ReferenceFilter()
    dataset_id = ReferenceFilter()
    search = django_filters.CharFilter(method="by_text", label="Part of the note, reason, workflow or dag_run_id")
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = Run
        fields = ["paused", "trigger_type"]

    def by_text(self, runs: QuerySet[Run], name: str, value: str) -> QuerySet[Run]:
        fields = ("note", "state_reason", "workflow__name", "dag_run_id")
        return runs.filter(reduce(or_, (Q(**{f"{field}__icontains": value}) for field in fields)))
