"""Runs. Querysets decide who sees them; services do the writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from http import HTTPStatus
from typing import Any, TypedDict, cast

from django.conf import settings
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import (
    OpenApiParameter,
    OpenApiResponse,
    PolymorphicProxySerializer,
    extend_schema,
    extend_schema_view,
)
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.identity import Caller, Scope, TicketAction
from accounts.models import User
from accounts.permissions import current_caller, current_user
from accounts.tickets import issue_ticket, require_issuable
from rest.error_responses import exception_handler
from rest.errors import InvalidInputError, NotAllowedError
from rest.ids import UUID_PATTERN
from rest.pages import KeysetPages, Pages
from rest.query import INCLUDE, StrictQuery, included, whole
from rest.schema import errors
from rest.serializers import include_parameter, validated
from workflows import explain, services
from workflows.access import may_run, require_runner
from workflows.api import examples, run_rows, waiting
from workflows.api.event_serializers import EventSerializer
from workflows.api.filters import RunFilter
from workflows.api.inputs import BatchInput, ControlInput, ControlRequest, TriggerInput, TriggerWithTicketInput
from workflows.api.run_pages import RunPages
from workflows.api.run_serializers import (
    BatchSerializer,
    ExplanationSerializer,
    ListedRunSerializer,
    ParametersSerializer,
    RetryPreviewSerializer,
    RunConflictSerializer,
    RunDetailSerializer,
    RunResultSerializer,
    RunSerializer,
    TaskSerializer,
    TriggeredRunSerializer,
)
from workflows.api.ticket_serializers import ShownTicketSerializer
from workflows.eventlog import publication
from workflows.eventlog.events import RetryMode
from workflows.lifecycle import results
from workflows.models import (
    Airflow,
    Event,
    Run,
    RunQuerySet,
    TaskInstance,
    TriggerType,
    Workflow,
    WorkflowQuerySet,
    is_unrestricted,
)

KEY_LENGTH = 200
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key", str, OpenApiParameter.HEADER, description="Choose one for each request that you may repeat."
)
PREFER = OpenApiParameter(
    "Prefer", str, OpenApiParameter.HEADER, description="`wait=30` answers when the run has ended, or after 30 seconds."
)
DEFAULT_TIMEOUT, LONGEST_TIMEOUT = 30, 86_400
WAIT = {"type": "integer", "minimum": 0, "maximum": LONGEST_TIMEOUT, "default": DEFAULT_TIMEOUT}
OF_THE_DAG = frozenset({"explain", "control"})  # these actions read the DAG of the run, with its graph


class EventPages(KeysetPages):
    ordering = "seq"
    page_size = 200


@extend_schema_view(
    list=extend_schema(
        summary="List runs of all workflows",
        description="Newest first, paged by keyset.",
        parameters=[include_parameter(ListedRunSerializer)],
        responses={200: ListedRunSerializer},
    )
)
class RunViewSet(StrictQuery, mixins.ListModelMixin, viewsets.GenericViewSet[Run]):
    serializer_class = ListedRunSerializer
    query_parameters = {"list": {INCLUDE}}
    several_times = ("state",)
    pagination_class = RunPages
    filterset_class = RunFilter
    ordering_fields = ["created_at"]
    follows_bounds = True
    required_scopes = {"GET": Scope.WORKFLOW_READ}

    def get_queryset(self) -> RunQuerySet:
        return Run.objects.visible_to(self.request.user)

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        with_parameters = "parameters" in included(request, ListedRunSerializer.on_demand)
        read = partial(run_rows.columns, parameters=with_parameters)
        runs, workflows = self._listed()
        pages = cast("RunPages", self.paginator)
        page = pages.page_of(self.filter_queryset(runs), of=workflows, read=read, request=request, view=self)
        return pages.get_paginated_response(run_rows.shown(page))

    def _listed(self) -> tuple[RunQuerySet, WorkflowQuerySet | None]:
        """Return what is listed: runs, of all workflows or of certain ones. Together they are `get_queryset`."""
        user = self.request.user
        of = None if is_unrestricted(user) else Workflow.objects.remembered_by(user)
        return Run.objects.within(user), of


@extend_schema_view(
    list=extend_schema(
        summary="List the runs of a workflow",
        description="Newest first, paged by keyset.",
        parameters=[include_parameter(ListedRunSerializer)],
        responses={200: ListedRunSerializer},
    ),
    retrieve=extend_schema(
        operation_id="get_run",
        summary="Get a run",
        description="`stale` is true while Airflow does not answer.",
        responses={200: RunDetailSerializer},
    ),
)
class WorkflowRunViewSet(mixins.RetrieveModelMixin, RunViewSet):
    lookup_value_regex = UUID_PATTERN
    required_scopes = {
        "GET": Scope.WORKFLOW_READ,
        "POST": Scope.RUN_TRIGGER,
        "control": Scope.RUN_CONTROL,
    }
    query_parameters = {
        "list": {INCLUDE},
        "events": {"cursor", "page_size"},
        "tasks": {"page", "page_size"},
        "wait": {"timeout"},
    }
    ticket_actions = {
        **dict.fromkeys(("retrieve", "result", "wait", "tasks", "events", "explain"), frozenset({TicketAction.VIEW})),
        "control": frozenset({TicketAction.STOP, TicketAction.RETRY}),
    }

    def get_queryset(self) -> RunQuerySet:
        if getattr(self, "swagger_fake_view", False):
            return Run.objects.none()
        workflow = get_object_or_404(self._workflows().only("pk"), pk=self.kwargs["workflow_pk"])
        runs = Run.objects.filter(workflow=workflow).within(self.request.user)
        return runs if self.action == "list" else self._with_relations(runs)

    def _listed(self) -> tuple[RunQuerySet, WorkflowQuerySet | None]:
        return self.get_queryset(), None

    def _with_relations(self, runs: RunQuerySet) -> RunQuerySet:
        runs = runs.with_work().select_related("workflow", "user")
        if self.action in OF_THE_DAG:
            return runs.select_related("workflow__dag", "user").defer("workflow__dag__doc_md")
        if self.action == "result":
            return runs.select_related("result")
        if self.action in {"retrieve", "wait"}:
            return runs.select_related("result").prefetch_related("attempts")
        return runs

    def get_serializer_class(self) -> type[RunSerializer]:
        if self.action == "list":
            return ListedRunSerializer
        return RunDetailSerializer if self.action == "retrieve" else RunSerializer

    def _workflows(self) -> WorkflowQuerySet:
        """Return the workflows that the path may name. A deleted workflow is read-only."""
        user, reads = self.request.user, self.request.method in SAFE_METHODS
        return Workflow.objects.remembered_by(user) if reads else Workflow.objects.visible_to(user)

    def _workflow(self) -> Workflow:
        return get_object_or_404(self._workflows().with_dag("params_schema"), pk=self.kwargs["workflow_pk"])

    @extend_schema(
        operation_id="trigger_run",
        summary="Trigger a run",
        description=(
            "Accepted also while Airflow does not answer: the run stays `pending` and is dispatched later. With an "
            "`Idempotency-Key`, the same request returns the same run (`Idempotent-Replayed: true`). The key is yours "
            "alone and is kept for at least 24 hours. With `Prefer: wait=30`, the answer comes when the run has ended: "
            "200 with its result; or after the time: 202 with its `Location`. With `ticket`, the answer carries a "
            "ticket for the run, also if it is a replay."
        ),
        request=TriggerWithTicketInput,
        parameters=[IDEMPOTENCY_KEY, PREFER],
        examples=examples.TRIGGER,
        responses={
            201: TriggeredRunSerializer,
            200: OpenApiResponse(RunDetailSerializer, "It has ended within the preferred wait."),
            202: OpenApiResponse(RunDetailSerializer, "It has not ended within the preferred wait."),
            **errors(409, 422),
        },
    )
    def create(self, request: Request, workflow_pk: str) -> Response:
        workflow = self._workflow()
        fields, wish = _wished(request)
        asked = _request_of(fields, key=idempotency_key(request))
        run, replayed, airflow = services.trigger_once(
            workflow=workflow, user=current_user(request), trigger_type=TriggerType.API, request=asked
        )
        headers = {"Idempotent-Replayed": "true"} if replayed else {}
        extra = {"ticket": _ticket_for(run, wish, current_caller(request))} if wish else {}
        seconds = waiting.preferred(request.headers.get("Prefer", ""))
        if seconds is not None:
            answer = waiting.answer(request, run, seconds=seconds, unwaited=HTTPStatus.CREATED, extra=extra)
            for name, value in {**headers, "Preference-Applied": f"wait={seconds}"}.items():
                answer[name] = value
            return answer
        airflows = {airflow.name: airflow} if airflow else Airflow.by_name()
        shown = run_rows.shown_run(run, airflows=airflows, parameters=True)
        return Response({**shown, **extra}, status=status.HTTP_201_CREATED, headers=headers)

    @extend_schema(
        operation_id="trigger_runs",
        summary="Trigger several runs",
        description=(
            "Up to 100 items, each as for a single trigger, each with its own result: a bad item does not stop the "
            "others. An `Idempotency-Key` counts for each item in its place. `Idempotent-Replayed: true` "
            "says that every run was accepted by an earlier request."
        ),
        request=BatchInput,
        parameters=[IDEMPOTENCY_KEY],
        responses={200: BatchSerializer},
    )
    @action(detail=False, methods=["post"], pagination_class=None, filterset_class=None)
    def batch(self, request: Request, workflow_pk: str) -> Response:
        workflow = self._workflow()
        require_runner(workflow, current_user(request))
        items = validated(BatchInput, request.data)["items"]
        results, replayed = _trigger_all(workflow, request, items, key=idempotency_key(request))
        return Response({"results": results}, headers={"Idempotent-Replayed": "true"} if replayed else None)

    @extend_schema(
        operation_id="validate_run",
        summary="Validate a request",
        description="Checks it as a trigger does, and returns its parameters with the workflow's defaults.",
        request=TriggerWithTicketInput,
        responses={200: ParametersSerializer, **errors(409)},
    )
    @action(detail=False, methods=["post"], pagination_class=None, filterset_class=None)
    def validate(self, request: Request, workflow_pk: str) -> Response:
        fields, _ = _wished(request)
        asked = _request_of(fields)
        return Response({"parameters": services.validate_request(workflow=self._workflow(), request=asked)})

    @extend_schema(
        operation_id="list_tasks",
        summary="List the tasks of a run",
        description="The task instances, as the last poll of Airflow showed them.",
        responses={200: TaskSerializer(many=True)},
    )
    @action(detail=True, filter_backends=[], pagination_class=Pages)
    def tasks(self, request: Request, workflow_pk: str, pk: str) -> Response:
        tasks: QuerySet[Any] = TaskInstance.objects.filter(run=self.get_object()).select_related("run")
        return self.get_paginated_response(TaskSerializer(self.paginate_queryset(tasks), many=True).data)

    @extend_schema(
        operation_id="get_run_result",
        summary="Get the result of a run",
        description=(
            "What the `result_task` of the workflow has returned, once the run has succeeded. Until then, and until it "
            "was read from Airflow, `state` is `pending`. A retry that succeeds replaces it."
        ),
        responses={200: RunResultSerializer},
    )
    @action(detail=True, filter_backends=[], pagination_class=None)
    def result(self, request: Request, workflow_pk: str, pk: str) -> Response:
        run = self.get_object()
        of_run = {"run_id": run.pk, "run_state": run.state, "attempt": run.attempt}
        return Response({**of_run, **results.shown(run)})

    @extend_schema(
        operation_id="wait_for_run",
        summary="Wait for the end of a run",
        description=(
            "Answers when the run has ended and its result is known, or after `timeout` seconds: 202 with the run as "
            "it is then. Ask again to wait on. Costs Airflow nothing. It counts as a stream among yours."
        ),
        parameters=[OpenApiParameter("timeout", WAIT, description="Seconds, 30 by default; `WAIT_MAX` at most.")],
        responses={
            200: RunDetailSerializer,
            202: OpenApiResponse(RunDetailSerializer, "It has not ended in this time."),
        },
    )
    @action(detail=True, filter_backends=[], pagination_class=None)
    def wait(self, request: Request, workflow_pk: str, pk: str) -> Response:
        timeout = whole("timeout", request.query_params.get("timeout"), at_most=LONGEST_TIMEOUT)
        seconds = min(DEFAULT_TIMEOUT if timeout is None else timeout, settings.WAIT_MAX)
        return waiting.answer(request, self.get_object(), seconds=seconds)

    @extend_schema(
        operation_id="explain_run",
        summary="Explain a run",
        description=(
            "Says in plain words why a run makes no progress or why it failed, and who can do what about it. Asks "
            "Airflow. Names each failed task, with the error from its log if you may read logs."
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
        operation_id="list_run_events",
        summary="List the events of a run",
        description="In order of `seq`, paged by keyset.",
        responses={200: EventSerializer(many=True)},
    )
    @action(detail=True, filter_backends=[], pagination_class=EventPages)
    def events(self, request: Request, workflow_pk: str, pk: str) -> Response:
        published = Event.objects.filter(run=self.get_object(), position__isnull=False)
        pages = EventPages()
        page = pages.paginate_queryset(published, request, view=self)
        return pages.get_paginated_response([publication.envelope(event) for event in page or []])

    @extend_schema(
        operation_id="control_run",
        summary="Stop, retry, pause or resume a run",
        description=(
            "`stop`: the run is `stopping` at once, and `stopped` when no task instance has a process any more. "
            "`retry`: runs what `failed` or was cut off, and what follows (default), `all` tasks, or the tasks "
            "`from_task` on (perhaps of one `map_index`) again; with `dry_run` it only lists them; 409 if nothing "
            "would run. `pause`: holds a pending run; for a started run it pauses the whole DAG. "
            "If that would freeze other runs, the answer is 409 with their list, unless `scope` is `workflow`. "
            "`resume`: undoes a pause. An action that does not fit the state of the run is 409 with that state, and "
            "nothing changes."
        ),
        request=ControlInput,
        examples=examples.CONTROL,
        responses={
            200: PolymorphicProxySerializer(
                component_name="ControlAnswer",
                serializers=[RunSerializer, RetryPreviewSerializer],
                resource_type_field_name=None,
            ),
            **errors(409, shape=RunConflictSerializer),
            **errors(502),
        },
    )
    @action(detail=True, methods=["post"], filterset_class=None)
    def control(self, request: Request, workflow_pk: str, pk: str) -> Response:
        run = self.get_object()
        asked: ControlRequest = validated(ControlInput, request.data)
        _require_action(current_caller(request), asked["action"])
        return Response(_control(run, asked, actor=current_user(request)))


def _require_action(caller: Caller, action: str) -> None:
    """Raise `NotAllowedError` for a ticket that does not name this action."""
    if caller.ticket_actions is not None and action not in caller.ticket_actions:
        raise NotAllowedError("This ticket does not allow this action.")


def _wished(request: Request) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the fields of a trigger, and the ticket that it asks for. A ticket that cannot be issued is refused."""
    fields = validated(TriggerWithTicketInput, request.data)
    wish: dict[str, Any] | None = fields.pop("ticket", None)
    if wish:
        require_issuable(
            caller=current_caller(request), actions=wish["actions"], seconds=wish["ttl"], field="ticket.ttl"
        )
    return fields, wish


def _ticket_for(run: Run, wish: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """Issue the ticket that was asked for with the run."""
    made = issue_ticket(
        caller=caller, run_id=run.pk, workflow_id=run.workflow_id, actions=wish["actions"], seconds=wish["ttl"]
    )
    return dict(ShownTicketSerializer(made.ticket, context={"ticket": made.text}).data)


def idempotency_key(request: Request) -> str:
    """Return the request's key, or an empty text; raise `InvalidInputError` for one that is empty or too long."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not 0 < len(key) <= KEY_LENGTH:
        raise InvalidInputError({"Idempotency-Key": [f"Expected 1 to {KEY_LENGTH} characters."]})
    return key or ""


def _request_of(fields: dict[str, Any], *, key: str = "") -> services.RunRequest:
    return services.RunRequest(key=key, **fields)


def _trigger_all(
    workflow: Workflow, request: Request, items: Sequence[Any], *, key: str
) -> tuple[list[dict[str, Any]], bool]:
    """Return for each item the answer that it alone would have got, and whether no run is new."""
    wrong: dict[int, ValidationError] = {}
    asked: dict[int, services.RunRequest] = {}
    for place, item in enumerate(items):
        try:
            asked[place] = _request_of(validated(TriggerInput, item), key=key and f"{key}#{place}")
        except ValidationError as exc:
            wrong[place] = exc
    outcomes = services.trigger_all(
        workflow=workflow, user=current_user(request), trigger_type=TriggerType.API, requests=list(asked.values())
    )
    found = {**wrong, **dict(zip(asked, outcomes, strict=True))}
    airflows = Airflow.by_name()
    accepted = [outcome for outcome in outcomes if isinstance(outcome, services.Triggered)]
    replayed = bool(accepted) and all(outcome.replayed for outcome in accepted)
    return [_batched(found[place], airflows) for place in range(len(items))], replayed


def _batched(outcome: services.Triggered | Exception, airflows: Mapping[str, Airflow]) -> dict[str, Any]:
    if isinstance(outcome, Exception):
        answer = exception_handler(outcome, {})
        return {"status": answer.status_code, "error": answer.data} if answer else {"status": 500}
    return {
        "status": status.HTTP_201_CREATED,
        "run": run_rows.shown_run(outcome.run, airflows=airflows, parameters=False),
    }


class _RetriedTasks(TypedDict):
    mode: RetryMode
    task_id: str | None
    map_index: int | None


def _control(run: Run, asked: ControlRequest, *, actor: User) -> dict[str, Any]:
    note = asked["note"]
    match asked["action"]:
        case "stop":
            run = services.stop_run(run=run, actor=actor, note=note)
        case "pause":
            run = services.pause_run(run=run, actor=actor, note=note, scope=asked.get("scope", "run"))
        case "resume":
            run = services.resume_run(run=run, actor=actor, note=note)
        case "retry":
            tasks: _RetriedTasks = {
                "mode": asked.get("mode", "failed"),
                "task_id": asked.get("from_task"),
                "map_index": asked.get("map_index"),
            }
            if asked.get("dry_run"):
                require_runner(run.workflow, actor)
                refs = services.preview_retry(run=run, **tasks)
                return {"would_run": [{"task_id": task_id, "map_index": map_index} for task_id, map_index in refs]}
            run = services.retry_run(run=run, actor=actor, note=note, **tasks)
    return RunSerializer(run).data
