"""Filters of the lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import django_filters
from django.db.models import Q, QuerySet
from drf_spectacular.utils import extend_schema_field

from accounts.permissions import current_user
from rest.filters import BooleanFilter, FilterSet, MomentFilter
from rest.query import LARGEST_INTEGER
from workflows import search
from workflows.models import Dag, ReferenceText, Run, Visibility, Workflow, has_work
from workflows.states import RunState

if TYPE_CHECKING:
    from rest_framework.request import Request


@extend_schema_field({"type": "integer", "minimum": 0, "maximum": LARGEST_INTEGER})
class IdFilter(django_filters.NumberFilter):
    """Matches an id; a number that no database stores is an error."""

    def __init__(self, **options: Any) -> None:
        super().__init__(min_value=0, max_value=LARGEST_INTEGER, decimal_places=0, **options)


class DagFilter(FilterSet):
    airflow = django_filters.CharFilter(field_name="airflow__name", label="The name of its Airflow")
    tag = django_filters.CharFilter(method="by_tag", label="Has this tag")
    search = django_filters.CharFilter(field_name="dag_id", lookup_expr="icontains", label="Part of the dag_id")

    class Meta:
        model = Dag
        fields = ["is_paused", "is_present"]

    def by_tag(self, dags: QuerySet[Dag], name: str, value: str) -> QuerySet[Dag]:
        # The databases have no common test for an element of a JSON list; there are few DAGs.
        return dags.filter(pk__in=[pk for pk, tags in dags.values_list("pk", "tags") if value in tags])


class WorkflowFilter(FilterSet):
    airflow = django_filters.CharFilter(field_name="dag__airflow__name", label="The name of the Airflow of its DAG")
    dag_id = django_filters.CharFilter(field_name="dag__dag_id")
    # A number, not a choice: the browsable page would show every user to everybody.
    owner = IdFilter(field_name="owner_id")
    visibility = django_filters.ChoiceFilter(choices=Visibility.choices)
    search = django_filters.CharFilter(field_name="name", lookup_expr="icontains", label="Part of the name")

    class Meta:
        model = Workflow
        fields = ["is_active"]


class ReferenceFilter(django_filters.CharFilter):
    """Matches the caller's reference, whether it is stored as a string or as an integer."""

    def filter(self, qs: QuerySet[Any], value: str | None) -> QuerySet[Any]:
        if not value:
            return qs
        given = Q(**{f"{self.field_name}__isnull": False})
        found: QuerySet[Any] = qs.alias(reference=ReferenceText(self.field_name)).filter(given, reference=value)
        return found


class RunFilter(FilterSet):
    # A run has one state, so no run is found twice. To compare all that it finds, the database would read all of it.
    state = django_filters.MultipleChoiceFilter(
        choices=RunState.choices, label="May be given several times", distinct=False
    )
    workflow = IdFilter(method="by_workflow")
    airflow = django_filters.CharFilter(field_name="airflow__name", label="The name of its Airflow")
    dag_id = django_filters.CharFilter()
    user = IdFilter(field_name="user_id")
    caller_task_ref = ReferenceFilter(field_name="task_id", label="The caller's own reference")
    caller_dataset_ref = ReferenceFilter(field_name="dataset_id", label="The caller's own reference")
    task_id = ReferenceFilter(label="The same as caller_task_ref")
    dataset_id = ReferenceFilter(label="The same as caller_dataset_ref")
    search = django_filters.CharFilter(method="by_text", label="Part of the note, reason, workflow or dag_run_id")
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lt")

    paused = BooleanFilter(method="by_pause", label="Whether it can make no progress until resumed")

    class Meta:
        model = Run
        fields = ["trigger_type"]

    def by_workflow(self, runs: QuerySet[Run], name: str, value: int) -> QuerySet[Run]:
        # Asked first: otherwise the database reads all its runs, to find that the caller may see none of them.
        visible = Workflow.objects.remembered_by(current_user(cast("Request", self.request))).filter(pk=value).exists()
        return runs.filter(workflow=value) if visible else runs.none()

    def by_pause(self, runs: QuerySet[Run], name: str, value: bool) -> QuerySet[Run]:
        is_paused = Q(paused=True) & ~(Q(state=RunState.RUNNING) & Q(has_work()))
        return runs.filter(is_paused if value else ~is_paused)

    def by_text(self, runs: QuerySet[Run], name: str, value: str) -> QuerySet[Run]:
        return runs.filter(search.containing(value))
