"""DAGs as last synced, and the sync."""

from __future__ import annotations

from dataclasses import asdict

from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.identity import Scope
from svops.api import NoInput
from svops.query import StrictQuery
from svops.schema import errors
from workflows import dag_sync, upstream
from workflows.api.filters import DagFilter
from workflows.api.serializers import (
    DagDetailSerializer,
    DagSerializer,
    SyncSerializer,
)
from workflows.models import Dag


@extend_schema_view(
    list=extend_schema(
        summary="List DAGs",
        description="Airflow's DAGs as last synced.",
        responses={200: DagSerializer},
    ),
    retrieve=extend_schema(
        summary="Get a DAG",
        description="With the JSON schema of its parameters and its task graph.",
        responses={200: DagDetailSerializer},
    ),
)
class DagViewSet(StrictQuery, viewsets.ReadOnlyModelViewSet[Dag]):
    queryset = Dag.objects.all()
    lookup_field = "dag_id"
    lookup_value_regex = "[^/]+"
    filterset_class = DagFilter
    ordering_fields = ["dag_id", "synced_at"]
    required_scopes = {"GET": Scope.WORKFLOW_READ, "sync": Scope.USER_ADMIN}

    def get_serializer_class(self) -> type[DagSerializer | DagDetailSerializer]:
        return DagSerializer if self.action == "list" else DagDetailSerializer

    @extend_schema(
        summary="Sync DAGs now",
        description="Mirrors Airflow's DAGs at once; beat does the same every minute.",
        request=None,
        responses={200: SyncSerializer, **errors(502)},
    )
    @action(detail=False, methods=["post"])
    def sync(self, request: Request) -> Response:
        NoInput(data=request.data).is_valid(raise_exception=True)
        with upstream.translated():
            result = dag_sync.sync_dags(now=timezone.now())
        return Response(asdict(result))
