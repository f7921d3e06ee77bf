"""Runs: triggered, watched, controlled. Their querysets decide who sees them, the services what a write does."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, PolymorphicProxySerializer, extend_schema, extend_schema_view
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.identity import Caller, Scope, TicketAction
from accounts.models import User
from accounts.permissions import current_caller, current_user
from svops.api import KeysetPages, exception_handler
from svops.errors import InvalidInputError, NotAllowedError, SVOpsError
from svops.query import StrictQuery
from svops.schema import errors
from workflows import explain, outbox, services
from workflows.access import may_run, require_runner
from workflows.api import examples
from workflows.api.filters import RunFilter
from workflows.api.serializers import (
    BatchInput,
    BatchSerializer,
    ControlInput,
    EventSerializer,
    ExplanationSerializer,
    ParametersInput,
    RetryPreviewSerializer,
    RunDetailSerializer,
    RunSerializer,
    TaskSerializer,
    TriggerInput,
)
from workflows.models import Event, Run, TaskInstance, TriggerType, Workflow

KEY_LENGTH = 200
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key", str, OpenApiParameter.HEADER, description="Chosen by you, one for each request you may repeat."
)
UUID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


class RunPages(KeysetPages):
    ordering = "-created_at"


class EventPages(KeysetPages):
    ordering = "seq"
    page_size = 200


@extend_schema_view(
    list=extend_schema(
        summary="List runs across workflows",
        description="Newest first, paged by keyset.",
        responses={200: RunSerializer},
    )
)
class RunViewSet(StrictQuery, mixins.ListModelMixin, viewsets.GenericViewSet[Run]):
    serializer_class = RunSerializer
    pagination_class = RunPages
    filterset_class = RunFilter
    ordering_fields = ["created_at"]
    follows_bounds = True
    required_scopes = {"GET": Scope.WORKFLOW_READ}

    def get_queryset(self) -> QuerySet[Run]:
        return Run.objects.visible_to(self.request.user).select_related("workflow__dag", "user")


@extend_schema_view(
    list=extend_schema(
        summary="List the runs of a workflow",
        description="Newest first, paged by keyset.",
        responses={200: RunSerializer},
    ),
    retrieve=extend_schema(
        summary="Get a run",
        description="`stale` is true while Airflow can not be seen.",
        responses={200: RunDetailSerializer},
    ),
)
class WorkflowRunViewSet(mixins.RetrieveModelMixin, RunViewSet):
    lookup_value_regex = UUID
    required_scopes = {
        "GET": Scope.WORKFLOW_READ,
        "POST": Scope.RUN_TRIGGER,
        "control": Scope.RUN_CONTROL,
    }
    query_parameters = {"events": {"cursor", "page_size"}}
    ticket_actions = {
        **dict.fromkeys(("retrieve", "tasks", "events", "explain"), frozenset({TicketAction.VIEW})),
        "control": frozenset({TicketAction.STOP, TicketAction.RETRY}),
    }

    def get_queryset(self) -> QuerySet[Run]:
        if getattr(self, "swagger_fake_view", False):
            return Run.objects.none()
        runs = super().get_queryset().filter(workflow=self._workflow())
        return runs.prefetch_related("attempts") if self.action == "retrieve" else runs

    def get_serializer_class(self) -> type[RunSerializer]:
        return RunDetailSerializer if self.action == "retrieve" else RunSerializer

    def _workflow(self) -> Workflow:
        """Of one that was deleted, the history can be read, and nothing be done."""
        user, reads = self.request.user, self.request.method in SAFE_METHODS
        found = Workflow.objects.remembered_by(user) if reads else Workflow.objects.visible_to(user)
        return get_object_or_404(found.select_related("dag"), pk=self.kwargs["workflow_pk"])

    @extend_schema(
        summary="Trigger a run",
        description=(
            "Accepted also while Airflow is down: the run stays `pending` and is handed over later. With an "
            "`Idempotency-Key` the same request answers with the same run (`Idempotent-Replayed: true`); the key is "
            "yours alone and is kept for at least 24 hours."
        ),
        request=TriggerInput,
        parameters=[IDEMPOTENCY_KEY],
        examples=examples.TRIGGER,
        responses={201: RunSerializer, **errors(409, 422)},
    )
    def create(self, request: Request, workflow_pk: str) -> Response:
        wanted = TriggerInput(data=request.data)
        workflow = self._workflow()
        wanted.is_valid(raise_exception=True)
        run, replayed = _trigger(workflow, request, wanted, key=idempotency_key(request))
        headers = {"Idempotent-Replayed": "true"} if replayed else None
        return Response(RunSerializer(run).data, status=status.HTTP_201_CREATED, headers=headers)

    @extend_schema(
        summary="Trigger several runs",
        description=(
            "Up to 100 items, each as for a single trigger, with a result for each: one bad item does not keep the "
            "others back. An `Idempotency-Key` counts for each item in its place."
        ),
        request=BatchInput,
        parameters=[IDEMPOTENCY_KEY],
        responses={200: BatchSerializer},
    )
    @action(detail=False, methods=["post"], pagination_class=None, filterset_class=None)
    def batch(self, request: Request, workflow_pk: str) -> Response:
        workflow = self._workflow()
        require_runner(workflow, current_user(request))
        batch = BatchInput(data=request.data)
        batch.is_valid(raise_exception=True)
        key = idempotency_key(request)
        items = enumerate(batch.validated_data["items"])
        results = [_batch_item(workflow, request, item, key=key and f"{key}#{n}") for n, item in items]
        return Response({"results": results})

    @extend_schema(
        summary="Validate parameters",
        description="Does only the checking of a trigger and answers the merged parameters.",
        request=ParametersInput,
        responses={200: ParametersInput},
    )
    @action(detail=False, methods=["post"], pagination_class=None, filterset_class=None)
    def validate(self, request: Request, workflow_pk: str) -> Response:
        wanted = ParametersInput(data=request.data)
        wanted.is_valid(raise_exception=True)
        given = wanted.validated_data.get("parameters", {})
        merged = services.validate_parameters(workflow=self._workflow(), given=given)
        return Response({"parameters": merged})

    @extend_schema(
        summary="List the tasks of a run",
        description="Its task instances as last seen in Airflow.",
        responses={200: TaskSerializer(many=True)},
    )
    @action(detail=True, filter_backends=[], pagination_class=None)
    def tasks(self, request: Request, workflow_pk: str, pk: str) -> Response:
        tasks = TaskInstance.objects.filter(run=self.get_object()).select_related("run")
        return Response(TaskSerializer(tasks, many=True).data)

    @extend_schema(
        summary="Explain a run",
        description=(
            "Why it makes no progress, or why it has failed, in plain words, and who can do what about it. Asks "
            "Airflow. Of a failed run each failed task is named, with the error in its log for whom may see logs."
        ),
        responses={200: ExplanationSerializer},
    )
    @action(detail=True, filter_backends=[], pagination_class=None)
    def explain(self, request: Request, workflow_pk: str, pk: str) -> Response:
        run = self.get_object()
        caller = current_caller(request)
        may_retry = caller.may(Scope.RUN_CONTROL, TicketAction.RETRY) and may_run(run.workflow, caller.user)
        may_see_logs = caller.may(Scope.WORKFLOW_READ, TicketAction.LOGS)
        reasons = explain.explain(run, now=timezone.now(), may_retry=may_retry, may_see_logs=may_see_logs)
        return Response({"state": run.state, "reasons": [asdict(reason) for reason in reasons]})

    @extend_schema(
        summary="List the events of a run",
        description="In order of `seq`, paged by keyset.",
        responses={200: EventSerializer(many=True)},
    )
    @action(detail=True, filter_backends=[], pagination_class=EventPages)
    def events(self, request: Request, workflow_pk: str, pk: str) -> Response:
        published = Event.objects.filter(run=self.get_object(), position__isnull=False)
        pages = EventPages()
        page = pages.paginate_queryset(published, request, view=self)
        return pages.get_paginated_response([outbox.envelope(event) for event in page or []])

    @extend_schema(
        summary="Stop, retry, pause or resume a run",
        description=(
            "`stop`: `stopping` at once, `stopped` when every task instance is over. `retry`: runs the `failed` "
            "tasks (default), `all`, or those `from_task` on again; with `dry_run` it only lists them. `pause`: holds "
            "a pending run; of a started one it pauses the DAG, which is 409 with the list of other runs that would "
            "freeze too unless `scope` is `workflow`. `resume` undoes it. An action that does not fit the run's state "
            "is 409 with that state, and nothing changes."
        ),
        request=ControlInput,
        examples=examples.CONTROL,
        responses={
            200: PolymorphicProxySerializer(
                component_name="ControlAnswer",
                serializers=[RunSerializer, RetryPreviewSerializer],
                resource_type_field_name=None,
            ),
            **errors(409, 502),
        },
    )
    @action(detail=True, methods=["post"], filterset_class=None)
    def control(self, request: Request, workflow_pk: str, pk: str) -> Response:
        run = self.get_object()
        wanted = ControlInput(data=request.data)
        wanted.is_valid(raise_exception=True)
        _require_named(current_caller(request), wanted.validated_data["action"])
        return Response(_control(run, actor=current_user(request), **wanted.validated_data))


def _require_named(caller: Caller, action: str) -> None:
    """Of a ticket: that it is for this very action."""
    if caller.ticket_actions is not None and action not in caller.ticket_actions:
        raise NotAllowedError("This ticket is not for that.")


def idempotency_key(request: Request) -> str:
    """The request's key, or nothing; raises `InvalidInputError` for one that is empty or too long."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not 0 < len(key) <= KEY_LENGTH:
        raise InvalidInputError({"Idempotency-Key": [f"Expected 1 to {KEY_LENGTH} characters."]})
    return key or ""


def _trigger(workflow: Workflow, request: Request, wanted: TriggerInput, *, key: str) -> services.Triggered:
    fields = dict(wanted.validated_data)
    return services.trigger_once(
        workflow=workflow,
        user=current_user(request),
        trigger_type=TriggerType.API,
        given=fields.pop("parameters", {}),
        key=key,
        **fields,
    )


def _batch_item(workflow: Workflow, request: Request, item: Any, *, key: str) -> dict[str, Any]:
    """One result of a batch: what the item would have been answered by itself."""
    wanted = TriggerInput(data=item)
    try:
        wanted.is_valid(raise_exception=True)
        run, _ = _trigger(workflow, request, wanted, key=key)
    except (SVOpsError, ValidationError) as exc:
        answer = exception_handler(exc, {})
        return {"status": answer.status_code, "error": answer.data} if answer else {"status": 500}
    return {"status": status.HTTP_201_CREATED, "run": RunSerializer(run).data}


def _control(run: Run, *, actor: User, action: str, note: str, **options: Any) -> dict[str, Any]:
    match action:
        case "stop":
            run = services.stop_run(run=run, actor=actor, note=note)
        case "pause":
            run = services.pause_run(run=run, actor=actor, note=note, scope=options.get("scope", "run"))
        case "resume":
            run = services.resume_run(run=run, actor=actor, note=note)
        case "retry":
            which = {"mode": options.get("mode", "failed"), "task_id": options.get("from_task")}
            if options.get("dry_run"):
                require_runner(run.workflow, actor)
                refs = services.preview_retry(run=run, **which)
                return {"would_run": [{"task_id": task_id, "map_index": map_index} for task_id, map_index in refs]}
            run = services.retry_run(run=run, actor=actor, note=note, **which)
    return RunSerializer(run).data
