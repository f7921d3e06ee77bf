"""Input and output of the API, apart: what comes in is strict, what goes out is all there is."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib.auth.models import Group
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.models import User
from svops.api import StrictSerializer
from svops.schema import ErrorSerializer
from workflows.models import (
    AirflowState,
    Dag,
    Event,
    Grant,
    Level,
    Run,
    RunAttempt,
    TaskInstance,
    Visibility,
    Workflow,
)
from workflows.services import RETRY_MODES
from workflows.states import RunState


class DagSerializer(serializers.ModelSerializer[Dag]):
    class Meta:
        model = Dag
        fields = [
            "dag_id", "description", "tags", "owners", "timetable_summary", "max_active_runs", "is_paused",
            "is_present", "import_error", "synced_at",
        ]  # fmt: skip


class DagDetailSerializer(serializers.ModelSerializer[Dag]):
    class Meta:
        model = Dag
        fields = [*DagSerializer.Meta.fields, "doc_md", "params_schema", "tasks"]


class SyncSerializer(serializers.Serializer[Any]):
    """What a sync did, as lists of dag_id."""

    seen = serializers.ListField(child=serializers.CharField())
    changed = serializers.ListField(child=serializers.CharField())
    vanished = serializers.ListField(child=serializers.CharField())
    import_errors = serializers.ListField(child=serializers.CharField())


class WorkflowSerializer(serializers.ModelSerializer[Workflow]):
    dag_id = serializers.CharField(source="dag.dag_id")
    is_paused = serializers.BooleanField(source="dag.is_paused", help_text="Whether its DAG is paused in Airflow.")
    owner_id = serializers.IntegerField()
    owner = serializers.CharField(source="owner.username")

    class Meta:
        model = Workflow
        fields = [
            "id", "name", "description", "dag_id", "owner_id", "owner", "is_active", "is_paused", "default_parameters",
            "visibility", "created_at", "updated_at",
        ]  # fmt: skip


class WorkflowInput(StrictSerializer):
    name = serializers.CharField(max_length=200)
    description = serializers.CharField(allow_blank=True, required=False, max_length=10_000)
    dag_id = serializers.SlugRelatedField(
        queryset=Dag.objects.filter(is_present=True),
        slug_field="dag_id",
        source="dag",
        error_messages={"does_not_exist": "There is no DAG {value} in Airflow; GET /api/v1/dags lists them."},
    )
    is_active = serializers.BooleanField(required=False)
    default_parameters = serializers.DictField(required=False)
    visibility = serializers.ChoiceField(choices=Visibility.choices, required=False)


class GrantSerializer(serializers.ModelSerializer[Grant]):
    user = serializers.CharField(source="user.username", default=None, allow_null=True)
    group = serializers.CharField(source="group.name", default=None, allow_null=True)

    class Meta:
        model = Grant
        fields = ["id", "user", "group", "level", "created_at"]


class GrantInput(StrictSerializer):
    """Either `user` or `group`, by name."""

    user = serializers.SlugRelatedField(
        queryset=User.objects.filter(is_active=True),
        slug_field="username",
        required=False,
        error_messages={"does_not_exist": "There is no active user {value}."},
    )
    group = serializers.SlugRelatedField(
        queryset=Group.objects.all(),
        slug_field="name",
        required=False,
        error_messages={"does_not_exist": "There is no group {value}."},
    )
    level = serializers.ChoiceField(choices=Level.choices)


class FreshnessMixin(serializers.Serializer[Any]):
    """`observed_at` and `stale`: cached state is never shown as fresh."""

    observed_at = serializers.SerializerMethodField(help_text="When Airflow was last seen to agree.")
    stale = serializers.SerializerMethodField(help_text="True while Airflow can not be seen.")

    def _airflow(self) -> AirflowState:
        # Read once for all rows of an answer, which share their outermost serializer.
        if not hasattr(self.root, "airflow_state"):
            self.root.airflow_state = AirflowState.current()  # type: ignore[attr-defined]
        state: AirflowState = self.root.airflow_state  # type: ignore[attr-defined]
        return state

    def _run(self, obj: Any) -> Run:
        return obj if isinstance(obj, Run) else obj.run

    def get_observed_at(self, obj: Any) -> datetime | None:
        run, looked_at = self._run(obj), self._airflow().looked_at
        if run.is_terminal or run.observed_at is None or looked_at is None:
            return run.observed_at
        # A look at the change feed that shows nothing new of an open run has confirmed it.
        return max(run.observed_at, looked_at)

    def get_stale(self, obj: Any) -> bool:
        return self._airflow().is_stale(timezone.now())


@extend_schema_field(OpenApiTypes.ANY)
class ReferenceField(serializers.Field[int | str, int | str, int | str, Any]):
    """The caller's own reference: an integer or a string of at most 250 characters, kept as it is."""

    def to_internal_value(self, data: Any) -> int | str:
        if isinstance(data, bool) or not isinstance(data, int | str):
            raise serializers.ValidationError("Expected an integer or a string.")
        if isinstance(data, str) and not 0 < len(data) <= 250:
            raise serializers.ValidationError("Expected 1 to 250 characters.")
        if isinstance(data, int) and abs(data) >= 2**63:
            raise serializers.ValidationError("Expected an integer of at most 64 bits.")
        return data

    def to_representation(self, value: int | str) -> int | str:
        return value


class RunSerializer(FreshnessMixin, serializers.ModelSerializer[Run]):
    workflow_id = serializers.IntegerField()
    workflow_name = serializers.CharField(source="workflow.name")
    user_id = serializers.IntegerField(allow_null=True)
    username = serializers.CharField(source="user.username", default=None, allow_null=True)
    task_id = ReferenceField(allow_null=True)
    dataset_id = ReferenceField(allow_null=True)
    duration_s = serializers.SerializerMethodField()

    class Meta:
        model = Run
        fields = [
            "id", "workflow_id", "workflow_name", "dag_id", "dag_run_id", "state", "state_reason", "paused",
            "trigger_type", "user_id", "username", "task_id", "dataset_id", "parameters", "note", "attempt",
            "created_at", "run_at", "queued_at", "started_at", "ended_at", "duration_s", "observed_at", "stale",
        ]  # fmt: skip

    def get_duration_s(self, run: Run) -> float | None:
        duration = run.duration()
        return duration.total_seconds() if duration else None


class TaskSerializer(FreshnessMixin, serializers.ModelSerializer[TaskInstance]):
    duration_s = serializers.SerializerMethodField()

    class Meta:
        model = TaskInstance
        fields = [
            "task_id", "map_index", "state", "try_number", "max_tries", "operator", "started_at", "ended_at",
            "duration_s", "observed_at", "stale",
        ]  # fmt: skip

    def get_duration_s(self, task: TaskInstance) -> float | None:
        duration = task.duration()
        return duration.total_seconds() if duration else None


def status_of(run: Run) -> dict[str, Any]:
    """Snapshot of a run for the streams: the run and its tasks as the API shows them."""
    tasks = run.tasks.select_related("run")
    return {"run": RunSerializer(run).data, "tasks": TaskSerializer(tasks, many=True).data}


class ParametersInput(StrictSerializer):
    parameters = serializers.DictField(required=False, help_text="Merged over the workflow's defaults.")


class AttemptSerializer(serializers.ModelSerializer[RunAttempt]):
    class Meta:
        model = RunAttempt
        fields = ["number", "state", "state_reason", "failed_tasks", "started_at", "ended_at"]


class RunDetailSerializer(RunSerializer):
    attempts = AttemptSerializer(many=True, help_text="The attempts before this one.")

    class Meta:
        model = Run
        fields = [*RunSerializer.Meta.fields, "attempts"]


class TriggerInput(ParametersInput):
    task_id = ReferenceField(required=False, allow_null=True, help_text="Your own reference, handed to the DAG.")
    dataset_id = ReferenceField(required=False, allow_null=True, help_text="Your own reference, handed to the DAG.")
    note = serializers.CharField(required=False, allow_blank=True, max_length=1000)
    run_at = serializers.DateTimeField(required=False, allow_null=True, help_text="Start then, not at once.")

    def validate_run_at(self, run_at: datetime | None) -> datetime | None:
        if run_at is not None and run_at <= timezone.now():
            raise serializers.ValidationError("Expected a time to come.")
        return run_at


class BatchInput(StrictSerializer):
    items = serializers.ListField(child=serializers.JSONField(allow_null=True), min_length=1, max_length=100)


class BatchResultSerializer(serializers.Serializer[Any]):
    status = serializers.IntegerField(help_text="What the item would have been answered by itself.")
    run = RunSerializer(required=False)
    error = ErrorSerializer(required=False)


class BatchSerializer(serializers.Serializer[Any]):
    results = BatchResultSerializer(many=True)


class PauseInput(StrictSerializer):
    note = serializers.CharField(required=False, allow_blank=True, default="", max_length=1000)


class ControlInput(StrictSerializer):
    action = serializers.ChoiceField(choices=["stop", "retry", "pause", "resume"])
    note = serializers.CharField(required=False, allow_blank=True, default="", max_length=1000)
    mode = serializers.ChoiceField(choices=RETRY_MODES, required=False, help_text="Of a retry; failed by default.")
    from_task = serializers.CharField(required=False, help_text="With mode from_task: the task to begin at.")
    dry_run = serializers.BooleanField(required=False, help_text="Of a retry: list, change nothing.")
    scope = serializers.ChoiceField(choices=["run", "workflow"], required=False, help_text="Of a pause.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        for field, action in {"mode": "retry", "from_task": "retry", "dry_run": "retry", "scope": "pause"}.items():
            if field in attrs and attrs["action"] != action:
                raise serializers.ValidationError({field: [f"Goes with the action {action} only."]})
        if (attrs.get("mode") == "from_task") != ("from_task" in attrs):
            raise serializers.ValidationError({"from_task": ["Goes with mode from_task: the id of a task."]})
        return attrs


class TaskRefSerializer(serializers.Serializer[Any]):
    task_id = serializers.CharField()
    map_index = serializers.IntegerField()


class RetryPreviewSerializer(serializers.Serializer[Any]):
    would_run = TaskRefSerializer(many=True)


class ReasonSerializer(serializers.Serializer[Any]):
    code = serializers.CharField(help_text="For programs.")
    reason = serializers.CharField(help_text="For people.")
    who = serializers.ChoiceField(choices=["nobody", "you", "operator", "author"], help_text="Who can act.")
    action = serializers.CharField(help_text="What they can do.")


class ExplanationSerializer(serializers.Serializer[Any]):
    state = serializers.ChoiceField(choices=RunState.choices)
    reasons = ReasonSerializer(many=True)


class EventSerializer(serializers.ModelSerializer[Event]):
    """The envelope, the same on every transport."""

    id = serializers.IntegerField(source="position", help_text="The cursor.")
    workflow_id = serializers.IntegerField(allow_null=True)
    run_id = serializers.UUIDField(allow_null=True)
    task_id = serializers.SerializerMethodField()
    user_id = serializers.IntegerField(allow_null=True)
    data = serializers.DictField()  # type: ignore[assignment]  # the field is named as on the wire

    class Meta:
        model = Event
        fields = ["id", "seq", "type", "workflow_id", "run_id", "task_id", "user_id", "timestamp", "data"]

    def get_task_id(self, event: Event) -> str | None:
        return event.task_id or None


class EventPageSerializer(serializers.Serializer[Any]):
    cursor = serializers.IntegerField(help_text="Send it as `after` next time.")
    results = EventSerializer(many=True)
