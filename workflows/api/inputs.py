"""Input of the API: unknown fields are refused. The `…_serializers` hold the output."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict, get_args

from django.contrib.auth.models import Group
from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.identity import TicketAction
from accounts.models import User
from rest.serializers import StrictSerializer
from workflows.api.fields import ReferenceField, ZonedDateTimeField
from workflows.dagrules import DagLevel, DagMatch
from workflows.eventlog.events import PAUSE_SCOPES, PauseScope, RetryMode
from workflows.models import Airflow, Dag, DataInterval, Level, Visibility, Workflow
from workflows.naming import DEFAULT, LONGEST_NAME
from workflows.services import RETRY_MODES


class NoteField(serializers.CharField):
    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, allow_blank=True, max_length=1000, **options)


class AirflowNameField(serializers.CharField):
    """The name of an Airflow. One that is unknown has no DAGs."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=LONGEST_NAME, **options)


class WorkflowInput(StrictSerializer):
    """A DAG made available under a name. In the context, `workflow` is the one that is changed."""

    name = serializers.CharField(max_length=200)
    description = serializers.CharField(allow_blank=True, required=False, max_length=10_000)
    airflow = AirflowNameField(
        required=False,
        help_text=(
            "The Airflow that has the DAG; `default` by default. Changed alone, it moves the workflow to the DAG of "
            "the same dag_id there. Runs stay where they are."
        ),
    )
    dag_id = serializers.CharField(max_length=250)
    is_active = serializers.BooleanField(required=False, help_text="False refuses new runs.")
    default_parameters = serializers.DictField(required=False, help_text="Parameters that a trigger can override.")
    visibility = serializers.ChoiceField(choices=Visibility.choices, required=False)
    result_task = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=250,
        help_text="The task of the DAG whose return value is the result of a run; empty for none.",
    )
    adopts_airflow_runs = serializers.BooleanField(
        required=False,
        help_text=(
            "Whether it gets the runs of its DAG that are started in Airflow itself. Only an admin can set it to true, "
            "for one workflow of a DAG. If none is chosen, the oldest active workflow gets them, provided that all "
            "workflows of the DAG are internal."
        ),
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Put the DAG in the place of its names. A hidden one is refused like one that does not exist."""
        if not attrs.keys() & {"airflow", "dag_id"}:
            return attrs
        workflow: Workflow | None = self.context.get("workflow")
        airflow = attrs.pop("airflow", workflow.dag.airflow_name if workflow else DEFAULT)
        field = "dag_id" if "dag_id" in attrs else "airflow"
        dag_id = attrs.pop("dag_id", workflow.dag.dag_id if workflow else "")
        visible = Dag.objects.visible_to(self.context["user"]).of(airflow)
        dag = visible.filter(dag_id=dag_id, is_present=True).first()
        if dag is None and not Airflow.objects.filter(name=airflow).exists() and airflow != DEFAULT:
            raise serializers.ValidationError({"airflow": [f"There is no Airflow {airflow}."]})
        if dag is None:
            where = "" if airflow == DEFAULT else f" in the Airflow {airflow}"
            message = f"There is no DAG {dag_id}{where}, or you cannot see it: see GET /api/v1/dags."
            raise serializers.ValidationError({field: [message]})
        return {**attrs, "dag": dag}


class UserField(serializers.SlugRelatedField[User]):
    def __init__(self, **options: Any) -> None:
        super().__init__(
            queryset=User.objects.filter(is_active=True),
            slug_field="username",
            help_text="A username.",
            error_messages={"does_not_exist": "There is no active user {value}."},
            **options,
        )


class GroupField(serializers.SlugRelatedField[Group]):
    def __init__(self, **options: Any) -> None:
        super().__init__(
            queryset=Group.objects.all(),
            slug_field="name",
            help_text="The name of a group.",
            error_messages={"does_not_exist": "There is no group {value}."},
            **options,
        )


class GrantInput(StrictSerializer):
    """Either `user` or `group`, by name."""

    user = UserField(required=False)
    group = GroupField(required=False)
    level = serializers.ChoiceField(choices=Level.choices)


class PauseInput(StrictSerializer):
    """Why the workflow is paused or resumed."""

    note = NoteField(default="")


class DagRuleInput(StrictSerializer):
    """DAGs, and a `user` or a `group` to open them to; without both, they are opened to everybody."""

    airflow = AirflowNameField(
        required=False, allow_blank=True, help_text="The Airflow that has them; `default` by default, empty for every."
    )
    match = serializers.ChoiceField(choices=DagMatch.choices)
    value = serializers.CharField(
        max_length=250, required=False, help_text="The dag_id, its beginning, or the tag; not for all."
    )
    user = UserField(required=False)
    group = GroupField(required=False)
    level = serializers.ChoiceField(
        choices=DagLevel.choices, required=False, help_text="`manage` includes to read the errors of the DAG's author."
    )


class DataIntervalInput(StrictSerializer):
    """The time whose data the run handles."""

    start = ZonedDateTimeField()
    end = ZonedDateTimeField(help_text="Not before `start`.")

    def validate(self, attrs: dict[str, datetime]) -> DataInterval:
        return DataInterval(**attrs)


MOST_ITEMS = 100  # of a batch
# The names of the caller's references, and the older ones, which Airflow uses for something else.
REFERENCES = {"caller_task_ref": "task_id", "caller_dataset_ref": "dataset_id"}


class TriggerInput(StrictSerializer):
    """A new run. `caller_task_ref` and `caller_dataset_ref` are your own references, passed to the DAG."""

    parameters = serializers.DictField(required=False, help_text="Override the workflow's defaults.")
    caller_task_ref = ReferenceField(required=False, allow_null=True, help_text="Your own reference.")
    caller_dataset_ref = ReferenceField(required=False, allow_null=True, help_text="Your own reference.")
    task_id = ReferenceField(required=False, allow_null=True, help_text="Another name of `caller_task_ref`.")
    dataset_id = ReferenceField(required=False, allow_null=True, help_text="Another name of `caller_dataset_ref`.")
    note = NoteField()
    run_at = serializers.DateTimeField(required=False, allow_null=True, help_text="When to start; at once by default.")
    logical_date = ZonedDateTimeField(
        required=False,
        allow_null=True,
        help_text=(
            "Airflow's date of the run, for templates such as `{{ ds }}`. Each run of a DAG needs another one. "
            "By default, a run has none on Airflow 3, and the moment of its dispatch on 2.11."
        ),
    )
    data_interval = DataIntervalInput(
        required=False,
        allow_null=True,
        help_text="Only with `logical_date`. By default, the timetable of the DAG derives it from that.",
    )

    def validate_run_at(self, run_at: datetime | None) -> datetime | None:
        if run_at is not None and run_at <= timezone.now():
            raise serializers.ValidationError("Must be in the future.")
        return run_at

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Put each reference under its one name, whichever of the two it was given."""
        differing = {}
        for name, other in REFERENCES.items():
            if other in attrs:
                given = attrs.pop(other)
                if name in attrs and attrs[name] != given:
                    differing[other] = [f"Differs from {name}, which is the same reference: leave out one."]
                attrs[name] = given
        if differing:
            raise serializers.ValidationError(differing)
        return attrs


TICKET_ACTIONS = [action.value for action in TicketAction]


class TicketWishInput(StrictSerializer):
    """The ticket that the answer is to carry."""

    actions = serializers.ListField(child=serializers.ChoiceField(choices=TICKET_ACTIONS), allow_empty=False)
    ttl = serializers.IntegerField(min_value=1, default=60, help_text="Lifetime in seconds.")


class TriggerWithTicketInput(TriggerInput):
    """A new run, and perhaps a ticket for it. `caller_task_ref` and `caller_dataset_ref` are your own references."""

    ticket = TicketWishInput(
        required=False, allow_null=True, help_text="Issues a ticket for the run, to hand to a browser."
    )


@extend_schema_field(TriggerInput(many=True))
class ItemsField(serializers.ListField):
    """Each item is checked by itself, later: a wrong one does not refuse the others."""

    child = serializers.JSONField(allow_null=True)


class BatchInput(StrictSerializer):
    """Several new runs, each as for a single trigger."""

    items = ItemsField(min_length=1, max_length=MOST_ITEMS, help_text=f"1 to {MOST_ITEMS}.")


ControlAction = Literal["stop", "retry", "pause", "resume"]
ACTIONS: tuple[ControlAction, ...] = get_args(ControlAction)


class ControlRequest(TypedDict):
    """What `ControlInput` returns when it is valid."""

    action: ControlAction
    note: str
    mode: NotRequired[RetryMode]
    from_task: NotRequired[str]
    map_index: NotRequired[int]
    dry_run: NotRequired[bool]
    scope: NotRequired[PauseScope]


class ControlInput(StrictSerializer):
    """An action on a run."""

    action = serializers.ChoiceField(choices=ACTIONS)
    note = NoteField(default="")
    mode = serializers.ChoiceField(
        choices=RETRY_MODES, required=False, help_text="Only for retry: which tasks; failed by default."
    )
    from_task = serializers.CharField(required=False, help_text="Only for mode from_task: the task to begin at.")
    map_index = serializers.IntegerField(
        min_value=-1,
        required=False,
        help_text="Only for mode from_task: one instance of a mapped task; all by default.",
    )
    dry_run = serializers.BooleanField(required=False, help_text="Only for retry: list the tasks, change nothing.")
    scope = serializers.ChoiceField(
        choices=PAUSE_SCOPES, required=False, help_text="Only for pause: workflow pauses the whole DAG."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        for field, action in _ACTION_OF.items():
            if field in attrs and attrs["action"] != action:
                raise serializers.ValidationError({field: [f"Only allowed for the action {action}."]})
        if (attrs.get("mode") == "from_task") != ("from_task" in attrs):
            raise serializers.ValidationError({"from_task": ["Required for mode from_task, and only there."]})
        if "map_index" in attrs and attrs.get("mode") != "from_task":
            raise serializers.ValidationError({"map_index": ["Only allowed with mode from_task."]})
        return attrs


# The action that each optional field of `ControlInput` belongs to.
_ACTION_OF = {**dict.fromkeys(("mode", "from_task", "map_index", "dry_run"), "retry"), "scope": "pause"}


class TicketInput(StrictSerializer):
    """A ticket for one run."""

    run_id = serializers.UUIDField()
    actions = serializers.ListField(child=serializers.ChoiceField(choices=TICKET_ACTIONS), allow_empty=False)
    ttl = serializers.IntegerField(min_value=1, default=60, help_text="Lifetime in seconds.")
