"""Runs and tasks in answers, what a control or a batch did, and why a run is stuck."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from rest.schema import ErrorSerializer
from rest.serializers import MaskedField, OnDemand
from workflows.api.fields import ReferenceField, StringListField
from workflows.api.ticket_serializers import ShownTicketSerializer
from workflows.explain import WHO
from workflows.lifecycle import results
from workflows.models import Airflow, DataInterval, ResultState, Run, RunAttempt, TaskInstance
from workflows.states import RunState


class FreshnessMixin(serializers.Serializer[Any]):
    """`observed_at` and `stale`: cached state is never shown as fresh."""

    observed_at = serializers.SerializerMethodField(help_text="When Airflow last confirmed this state.")
    stale = serializers.SerializerMethodField(
        help_text="True while Airflow does not answer, or hides the run's DAG from SVOps' user."
    )

    def _airflow_of(self, run: Run) -> Airflow:
        # Read once for all rows of an answer, which share their outermost serializer.
        if not hasattr(self.root, "airflows"):
            self.root.airflows = Airflow.by_name()  # type: ignore[attr-defined]
        airflow: Airflow = self.root.airflows[run.airflow_name]  # type: ignore[attr-defined]
        return airflow

    def _run(self, obj: Any) -> Run:
        return obj if isinstance(obj, Run) else obj.run

    def get_observed_at(self, obj: Any) -> datetime | None:
        run = self._run(obj)
        return self._airflow_of(run).confirmed_at(run.observed_at, dag_id=run.dag_id, ended=run.is_terminal)

    def get_stale(self, obj: Any) -> bool:
        run = self._run(obj)
        return self._airflow_of(run).is_run_stale(run.dag_id, now=timezone.now())


class DataIntervalSerializer(serializers.Serializer[DataInterval]):
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()


class RunSerializer(FreshnessMixin, serializers.ModelSerializer[Run]):
    """A run."""

    workflow_id = serializers.IntegerField()
    workflow_name = serializers.CharField(source="workflow.name")
    airflow = serializers.CharField(source="airflow_id", help_text="The name of the Airflow that it is in.")
    user_id = serializers.IntegerField(allow_null=True, help_text="Who triggered it; null if Airflow did.")
    username = serializers.CharField(source="user.username", read_only=True, allow_null=True)
    caller_task_ref = ReferenceField(source="task_id", allow_null=True, help_text="The caller's own reference.")
    caller_dataset_ref = ReferenceField(source="dataset_id", allow_null=True, help_text="The caller's own reference.")
    task_id = ReferenceField(allow_null=True, help_text="The same as `caller_task_ref`; no task of Airflow.")
    dataset_id = ReferenceField(allow_null=True, help_text="The same as `caller_dataset_ref`.")
    paused = serializers.BooleanField(source="is_paused", help_text="It can make no progress until it is resumed.")
    pausing = serializers.BooleanField(
        source="is_pausing", help_text="Its DAG is paused, and tasks that had started go on to their end."
    )
    parameters = serializers.DictField(read_only=True, help_text="With the workflow's defaults.")
    data_interval = DataIntervalSerializer(
        read_only=True, allow_null=True, help_text="As given; for a run started in Airflow, Airflow's."
    )
    state_reason = MaskedField()
    duration_s = serializers.SerializerMethodField(help_text="Seconds from start to end; null until both are known.")

    class Meta:
        model = Run
        fields = [
            "id", "workflow_id", "workflow_name", "airflow", "dag_id", "dag_run_id", "state", "state_reason", "paused",
            "pausing", "trigger_type", "user_id", "username", "caller_task_ref", "caller_dataset_ref", "task_id",
            "dataset_id", "parameters", "note", "attempt", "created_at", "run_at", "logical_date", "data_interval",
            "queued_at", "started_at", "ended_at", "duration_s", "observed_at", "stale",
        ]  # fmt: skip
        read_only_fields = fields
        extra_kwargs = {
            "run_at": {"help_text": "When it is to start; null for at once."},
            "logical_date": {"help_text": "As given; for a run started in Airflow, Airflow's."},
        }

    def get_duration_s(self, run: Run) -> float | None:
        duration = run.duration()
        return duration.total_seconds() if duration else None


class ListedRunSerializer(OnDemand, RunSerializer):
    """A run in a list. `?include=parameters` shows its parameters too."""

    on_demand = ("parameters",)
    parameters = serializers.DictField(required=False, help_text="With the workflow's defaults.")


class BatchedRunSerializer(RunSerializer):
    """A new run, without the parameters that were just sent."""

    parameters = None  # type: ignore[assignment]  # DRF's way to leave out a field of the base

    class Meta(RunSerializer.Meta):
        fields = [name for name in RunSerializer.Meta.fields if name != "parameters"]
        read_only_fields = fields


@extend_schema_serializer(component_name="RunAttempt")
class AttemptSerializer(serializers.ModelSerializer[RunAttempt]):
    """An earlier attempt of a run, as it ended."""

    failed_tasks = StringListField(read_only=True, help_text="Each as task_id, or task_id[map_index].")
    state_reason = MaskedField()

    class Meta:
        model = RunAttempt
        fields = ["number", "state", "state_reason", "failed_tasks", "started_at", "ended_at"]
        read_only_fields = fields


class ResultSerializer(serializers.Serializer[Any]):
    """The result of a run: what the workflow's `result_task` has returned, or why there is nothing."""

    state = serializers.ChoiceField(
        choices=ResultState.choices,
        help_text=(
            "`none`: nothing is expected. `pending`: the run has not ended, or the result is still to be read from "
            "Airflow. `missing`: the task was skipped, has failed or has returned nothing. `too_large`: Airflow has "
            "it, see `reference`. `unavailable`: Airflow did not give it."
        ),
    )
    task_id = serializers.CharField(allow_blank=True, help_text="The result task; empty if there is none.")
    value = serializers.JSONField(allow_null=True, help_text="Any JSON; null in every state but `ready`.")
    size = serializers.IntegerField(allow_null=True, help_text="Bytes of the value as JSON, if known.")
    reason = serializers.CharField(allow_blank=True, help_text="Why there is no value, for people.")
    reference = serializers.CharField(
        allow_blank=True, help_text="Where Airflow's API has a result that is too large, below `/api/v2/`."
    )


class TriggeredRunSerializer(RunSerializer):
    """A new run, with the ticket that was asked for."""

    ticket = ShownTicketSerializer(required=False)

    class Meta(RunSerializer.Meta):
        fields = [*RunSerializer.Meta.fields, "ticket"]
        read_only_fields = fields


class RunResultSerializer(ResultSerializer):
    """The result of a run, beside the run itself."""

    run_id = serializers.UUIDField()
    run_state = serializers.ChoiceField(choices=RunState.choices)
    attempt = serializers.IntegerField(help_text="The attempt of the run that the result belongs to.")


class RunDetailSerializer(RunSerializer):
    """A run with its earlier attempts and its result."""

    attempts = AttemptSerializer(many=True, read_only=True, help_text="The attempts before this one.")
    result = serializers.SerializerMethodField(help_text="What its result task has returned.")

    class Meta(RunSerializer.Meta):
        fields = [*RunSerializer.Meta.fields, "attempts", "result"]
        read_only_fields = fields

    @extend_schema_field(ResultSerializer)
    def get_result(self, run: Run) -> dict[str, Any]:
        return {**results.shown(run)}


@extend_schema_serializer(component_name="TaskAnswer")
class AnswerSerializer(serializers.Serializer[Any]):
    chosen = StringListField(help_text="The chosen options.")
    params = serializers.DictField()
    by = serializers.CharField(help_text="Who answered; empty if Airflow took the defaults after a timeout.")
    at = serializers.DateTimeField()


@extend_schema_serializer(component_name="TaskQuestion")
class QuestionSerializer(serializers.Serializer[Any]):
    """What a task asks a person."""

    subject = serializers.CharField()
    body = serializers.CharField(help_text="Markdown.")
    options = StringListField()
    defaults = StringListField(help_text="Airflow takes them after a timeout.")
    multiple = serializers.BooleanField(help_text="Whether several options may be chosen.")
    params = serializers.DictField(help_text="What else is asked for, in the form of DAG parameters.")
    respondents = StringListField(help_text="Who may answer in Airflow; empty if no account was named.")
    asked_at = serializers.DateTimeField(allow_null=True)
    answer = AnswerSerializer(allow_null=True)


class TaskSerializer(FreshnessMixin, serializers.ModelSerializer[TaskInstance]):
    """A task instance of a run."""

    duration_s = serializers.SerializerMethodField(help_text="Seconds from start to end; null until both are known.")
    question = serializers.SerializerMethodField(help_text="What it asks a person; null if it asks nothing.")

    class Meta:
        model = TaskInstance
        fields = [
            "task_id", "map_index", "state", "try_number", "max_tries", "operator", "started_at", "ended_at",
            "duration_s", "instance_id", "question", "observed_at", "stale",
        ]  # fmt: skip
        read_only_fields = fields

    def get_duration_s(self, task: TaskInstance) -> float | None:
        duration = task.duration()
        return duration.total_seconds() if duration else None

    @extend_schema_field(QuestionSerializer(allow_null=True))
    def get_question(self, task: TaskInstance) -> dict[str, Any] | None:
        return task.question or None


class StatusSerializer(serializers.Serializer[Run]):
    """A run and its tasks: the answer to `get_status` on a stream."""

    run = RunSerializer(source="*")
    tasks = TaskSerializer(many=True)


@extend_schema_serializer(component_name="MergedParameters")
class ParametersSerializer(serializers.Serializer[Any]):
    parameters = serializers.DictField(help_text="With the workflow's defaults.")


class BatchResultSerializer(serializers.Serializer[Any]):
    """The result of one item: `run` if it was accepted, else `error`."""

    status = serializers.IntegerField(help_text="The HTTP status that the item alone would have got.")
    run = BatchedRunSerializer(required=False)
    error = ErrorSerializer(required=False)


class BatchSerializer(serializers.Serializer[Any]):
    results = BatchResultSerializer(many=True)


class TaskRefSerializer(serializers.Serializer[Any]):
    task_id = serializers.CharField()
    map_index = serializers.IntegerField(help_text="-1 for a task that is not mapped.")


class RetryPreviewSerializer(serializers.Serializer[Any]):
    """What a retry would run again."""

    would_run = TaskRefSerializer(many=True)


class OtherRunSerializer(serializers.Serializer[Any]):
    run_id = serializers.UUIDField()
    workflow_id = serializers.IntegerField()
    state = serializers.ChoiceField(choices=RunState.choices)


class RunConflictSerializer(ErrorSerializer):
    """Why the action does not fit: the state of the run, or the other runs that a pause would freeze."""

    state = serializers.ChoiceField(choices=RunState.choices, required=False)
    paused = serializers.BooleanField(required=False)
    run_id = serializers.UUIDField(required=False)
    other_runs = serializers.IntegerField(required=False, help_text="How many runs would freeze too.")
    runs = OtherRunSerializer(many=True, required=False, help_text="Those of them that you can see, at most 100.")


class ActiveRunsSerializer(ErrorSerializer):
    """Why a workflow cannot be deleted."""

    active_runs = serializers.IntegerField(help_text="How many of its runs have not ended.")


class ReasonSerializer(serializers.Serializer[Any]):
    code = serializers.CharField(help_text="For programs.")
    reason = serializers.CharField(help_text="For people.")
    who = serializers.ChoiceField(choices=WHO, help_text="Who can act.")
    action = serializers.CharField(help_text="What they can do.")


class ExplanationSerializer(serializers.Serializer[Any]):
    state = serializers.ChoiceField(choices=RunState.choices)
    reasons = ReasonSerializer(many=True)
