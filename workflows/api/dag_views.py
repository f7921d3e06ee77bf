"""DAGs as the last sync stored them, and the sync itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.identity import Scope
from accounts.permissions import current_user
from rest.errors import InvalidInputError
from rest.query import StrictQuery
from rest.schema import errors
from rest.serializers import NoInput, validated
from workflows import gateway
from workflows.access import DagRights
from workflows.api.dag_serializers import DagDetailSerializer, DagSerializer, SyncSerializer
from workflows.api.filters import DagFilter
from workflows.models import Airflow, Dag
from workflows.naming import DEFAULT
from workflows.watch import dags

OF_AIRFLOW = OpenApiParameter("airflow", str, description="The name of the Airflow; `default` by default.")


@extend_schema_view(
    list=extend_schema(
        summary="List DAGs",
        description="The DAGs of workflows that you can see and those that you may build on, as of the last sync.",
        responses={200: DagSerializer},
    ),
    retrieve=extend_schema(
        summary="Get a DAG",
        description="With the JSON schema of its parameters and its task graph.",
        parameters=[OF_AIRFLOW],
        responses={200: DagDetailSerializer},
    ),
)
class DagViewSet(StrictQuery, viewsets.ReadOnlyModelViewSet[Dag]):
    queryset = Dag.objects.none()
    lookup_field = "dag_id"
    lookup_value_regex = "[^/]+"
    filterset_class = DagFilter
    ordering_fields = ["dag_id", "synced_at"]
    required_scopes = {"GET": Scope.WORKFLOW_READ, "sync": Scope.USER_ADMIN}
    query_parameters = {"retrieve": {"airflow"}, "sync": {"airflow"}}

    def get_queryset(self) -> QuerySet[Dag]:
        dags = Dag.objects.visible_to(self.request.user)
        return dags.brief() if self.action == "list" else dags.of(self._airflow())

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "rights": DagRights(current_user(self.request))}

    def get_serializer_class(self) -> type[DagSerializer]:
        return DagSerializer if self.action == "list" else DagDetailSerializer

    @extend_schema(
        operation_id="sync_dags",
        summary="Sync DAGs now",
        description="Copies the DAGs of an Airflow now; beat does the same with all every minute.",
        request=None,
        parameters=[OF_AIRFLOW],
        responses={200: SyncSerializer, **errors(502)},
    )
    @action(detail=False, methods=["post"], filterset_class=None)
    def sync(self, request: Request) -> Response:
        validated(NoInput, request.data)
        airflow = self._airflow()
        if airflow != DEFAULT and not Airflow.objects.active().filter(name=airflow).exists():
            raise InvalidInputError({"airflow": ["There is no active Airflow with this name."]})
        with gateway.translated(airflow):
            result = dags.sync_dags(airflow, now=timezone.now(), whole=True)
        return Response(asdict(result))

    def _airflow(self) -> str:
        return self.request.query_params.get("airflow", DEFAULT)
