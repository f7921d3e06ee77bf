"""DAGs in answers, and what a sync did."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from rest.masking import mask
from rest.serializers import MaskedField
from workflows import parameters
from workflows.access import DagRights
from workflows.api.fields import StringListField
from workflows.models import Dag


class DagTaskSerializer(serializers.Serializer[Any]):
    """One task of a DAG."""

    task_id = serializers.CharField()
    downstream_task_ids = StringListField(help_text="The tasks that follow it directly.")
    operator = serializers.CharField(allow_null=True)
    trigger_rule = serializers.CharField(allow_null=True, help_text="Which ends of the tasks before let it start.")
    retries = serializers.IntegerField()
    is_mapped = serializers.BooleanField(help_text="Whether a run can have several instances of it.")
    pool = serializers.CharField(allow_null=True)


class DagSerializer(serializers.ModelSerializer[Dag]):
    """The caller's `DagRights` are in the context: they decide whether the error of the author is shown."""

    airflow = serializers.CharField(source="airflow_id", read_only=True, help_text="The name of its Airflow.")
    tags = StringListField(read_only=True)
    owners = StringListField(read_only=True)
    unusable_reason = MaskedField()
    refused = StringListField(
        read_only=True,
        help_text="What Airflow refused SVOps' user with this DAG when it last tried: `see`, `run`, `stop`, `retry`, "
        "`pause`. It is tried again with the next run.",
    )
    refused_reason = serializers.CharField(read_only=True, help_text="The same as a sentence; empty if it is nothing.")
    has_import_error = serializers.SerializerMethodField(help_text="Whether Airflow cannot import its file.")
    import_error = serializers.SerializerMethodField(
        help_text="Empty unless you may manage every DAG of the file: it may quote each."
    )
    may_build = serializers.SerializerMethodField(help_text="Whether a rule lets you build workflows on it.")

    class Meta:
        model = Dag
        fields = [
            "airflow", "dag_id", "description", "tags", "owners", "timetable_summary", "max_active_runs", "is_paused",
            "is_present", "has_import_error", "import_error", "unusable_reason", "refused",
            "refused_reason", "may_build", "synced_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_has_import_error(self, dag: Dag) -> bool:
        return bool(dag.import_error)

    def get_import_error(self, dag: Dag) -> str:
        return mask(dag.import_error) if dag.import_error and self._rights.may_read_error(dag) else ""

    def get_may_build(self, dag: Dag) -> bool:
        return self._rights.may_build(dag)

    @property
    def _rights(self) -> DagRights:
        rights: DagRights = self.context["rights"]
        return rights


class DagDetailSerializer(DagSerializer):
    params_schema = serializers.DictField(read_only=True, help_text="JSON schema of the run's parameters.")
    unchecked_parameters = serializers.SerializerMethodField(
        help_text="What SVOps does not check of the parameters; Airflow does when it starts the run."
    )
    tasks = DagTaskSerializer(many=True, read_only=True, help_text="The task graph.")

    class Meta(DagSerializer.Meta):
        fields = [*DagSerializer.Meta.fields, "doc_md", "params_schema", "unchecked_parameters", "tasks"]
        read_only_fields = fields

    def get_unchecked_parameters(self, dag: Dag) -> list[str]:
        return parameters.unchecked_in(dag.params_schema)


class SyncSerializer(serializers.Serializer[Any]):
    """What a sync did, as lists of dag_id."""

    seen = StringListField()
    changed = StringListField()
    vanished = StringListField()
    import_errors = StringListField()
    unusable = StringListField(help_text="DAGs that cannot be triggered; `unusable_reason` of each says why.")
