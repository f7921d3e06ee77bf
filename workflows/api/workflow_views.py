"""Workflows and the grants on them. Querysets decide who sees them; services do the writes."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.identity import Scope
from accounts.permissions import current_user
from rest.pages import Pages
from rest.query import INCLUDE, StrictQuery
from rest.schema import errors
from rest.serializers import include_parameter, validated
from workflows import services
from workflows.access import require_manager, require_runner
from workflows.api import examples
from workflows.api.filters import WorkflowFilter
from workflows.api.inputs import GrantInput, PauseInput, WorkflowInput
from workflows.api.run_serializers import ActiveRunsSerializer
from workflows.api.workflow_serializers import GrantSerializer, ListedWorkflowSerializer, WorkflowSerializer
from workflows.models import Workflow


@extend_schema_view(
    list=extend_schema(
        summary="List workflows",
        description="The workflows that you can see.",
        parameters=[include_parameter(ListedWorkflowSerializer)],
        responses={200: ListedWorkflowSerializer},
    ),
    retrieve=extend_schema(
        summary="Get a workflow",
        description="A workflow that you can see.",
        responses={200: WorkflowSerializer},
    ),
)
class WorkflowViewSet(StrictQuery, viewsets.ReadOnlyModelViewSet[Workflow]):
    query_parameters = {"list": {INCLUDE}, "grants": {"page", "page_size"}}
    follows_bounds = True
    lookup_value_regex = r"\d{1,18}"
    filterset_class = WorkflowFilter
    ordering_fields = ["id", "name", "created_at", "updated_at"]
    required_scopes = {
        "GET": Scope.WORKFLOW_READ,
        "POST": Scope.WORKFLOW_WRITE,
        "PATCH": Scope.WORKFLOW_WRITE,
        "DELETE": Scope.WORKFLOW_WRITE,
        "pause": Scope.RUN_CONTROL,
        "resume": Scope.RUN_CONTROL,
        "grants": Scope.WORKFLOW_WRITE,
        "grant": Scope.WORKFLOW_WRITE,
        "revoke": Scope.WORKFLOW_WRITE,
    }

    def get_serializer_class(self) -> type[WorkflowSerializer]:
        return ListedWorkflowSerializer if self.action == "list" else WorkflowSerializer

    def get_queryset(self) -> QuerySet[Workflow]:
        return Workflow.objects.visible_to(self.request.user).with_dag().select_related("dag", "owner")

    @extend_schema(
        summary="Create a workflow",
        description=(
            "Makes a DAG available under a name, with default parameters and an audience. 403 if no rule of an admin "
            "lets you build on the DAG."
        ),
        request=WorkflowInput,
        examples=examples.WORKFLOW,
        responses={201: WorkflowSerializer},
    )
    def create(self, request: Request) -> Response:
        fields = validated(WorkflowInput, request.data, user=request.user)
        workflow = services.create_workflow(owner=current_user(request), **fields)
        return Response(WorkflowSerializer(workflow).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Change a workflow",
        description="For its owner, admins and those with a `manage` grant. Fields that are not sent stay.",
        request=WorkflowInput(partial=True),
        responses={200: WorkflowSerializer},
    )
    def partial_update(self, request: Request, pk: str) -> Response:
        workflow = self.get_object()
        changes = validated(WorkflowInput, request.data, partial=True, user=request.user, workflow=workflow)
        services.update_workflow(workflow=workflow, actor=current_user(request), **changes)
        return Response(WorkflowSerializer(workflow).data)

    @extend_schema(
        summary="Pause a workflow",
        description=(
            "Pauses its whole DAG in Airflow: all its runs freeze, and new ones wait. 403 unless you may run every "
            "workflow on the DAG."
        ),
        request=PauseInput,
        responses={200: WorkflowSerializer},
    )
    @action(detail=True, methods=["post"], filterset_class=None)
    def pause(self, request: Request, pk: str) -> Response:
        return self._set_paused(request, paused=True)

    @extend_schema(
        summary="Resume a workflow",
        description="Unpauses its DAG in Airflow. 403 unless you may run every workflow on the DAG.",
        request=PauseInput,
        responses={200: WorkflowSerializer},
    )
    @action(detail=True, methods=["post"], filterset_class=None)
    def resume(self, request: Request, pk: str) -> Response:
        return self._set_paused(request, paused=False)

    def _set_paused(self, request: Request, *, paused: bool) -> Response:
        workflow = self.get_object()
        require_runner(workflow, current_user(request))
        fields = validated(PauseInput, request.data)
        services.set_dag_paused(dag=workflow.dag, paused=paused, actor=current_user(request), **fields)
        return Response(WorkflowSerializer(self.get_object()).data)

    @extend_schema(
        summary="Delete a workflow",
        description="Hides it for good and keeps its runs. Refused while a run has not ended.",
        responses={204: None, **errors(409, shape=ActiveRunsSerializer, active_runs=2)},
    )
    def destroy(self, request: Request, pk: str) -> Response:
        services.delete_workflow(workflow=self.get_object(), actor=current_user(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(
        operation_id="list_grants",
        summary="List grants",
        description="For the owner of the workflow, admins and those with a `manage` grant.",
        responses={200: GrantSerializer(many=True)},
    )
    @action(detail=True, filter_backends=[], pagination_class=Pages)
    def grants(self, request: Request, pk: str) -> Response:
        workflow = self.get_object()
        require_manager(workflow, current_user(request))
        grants: QuerySet[Any] = workflow.grants.select_related("user", "group").order_by("id")
        return self.get_paginated_response(GrantSerializer(self.paginate_queryset(grants), many=True).data)

    @extend_schema(
        operation_id="grant_access",
        summary="Grant access",
        description=(
            "`view` lets a user, or every member of a group, see a private workflow and its runs. `run` includes to "
            "trigger and control them. `manage` includes to change the workflow and to grant. The answer is 200 if "
            "they had another level, which this one replaces."
        ),
        request=GrantInput,
        examples=examples.GRANT,
        responses={200: GrantSerializer, 201: GrantSerializer},
    )
    @grants.mapping.post
    def grant(self, request: Request, pk: str) -> Response:
        workflow = self.get_object()
        require_manager(workflow, current_user(request))
        fields = validated(GrantInput, request.data)
        grant, created = services.grant(workflow=workflow, actor=current_user(request), **fields)
        return Response(GrantSerializer(grant).data, status=status.HTTP_201_CREATED if created else status.HTTP_200_OK)

    @extend_schema(
        operation_id="revoke_grant",
        summary="Revoke a grant",
        description="Takes effect with the next request and the next event.",
        parameters=[OpenApiParameter("grant_id", int, OpenApiParameter.PATH)],
        responses={204: None},
    )
    @action(detail=True, methods=["delete"], url_path=r"grants/(?P<grant_id>\d{1,18})", filterset_class=None)
    def revoke(self, request: Request, pk: str, grant_id: str) -> Response:
        workflow = self.get_object()
        require_manager(workflow, current_user(request))
        held = get_object_or_404(workflow.grants.select_related("workflow"), pk=grant_id)
        services.revoke(grant=held, actor=current_user(request))
        return Response(status=status.HTTP_204_NO_CONTENT)
