"""Workflows and grants in answers."""

from __future__ import annotations

from rest_framework import serializers

from rest.masking import mask
from rest.serializers import OnDemand
from workflows.access import DagRights
from workflows.lifecycle.moves import why_not_triggerable
from workflows.models import Airflow, Grant, Workflow


class WorkflowSerializer(serializers.ModelSerializer[Workflow]):
    airflow = serializers.CharField(source="dag.airflow_id", help_text="The name of the Airflow that has its DAG.")
    dag_id = serializers.CharField(source="dag.dag_id")
    is_paused = serializers.BooleanField(source="dag.is_paused", help_text="Whether its DAG is paused in Airflow.")
    owner_id = serializers.IntegerField()
    owner = serializers.CharField(source="owner.username")
    default_parameters = serializers.DictField(read_only=True)
    hindrance = serializers.SerializerMethodField(help_text="Why no run of it can start now; empty if one can.")

    class Meta:
        model = Workflow
        fields = [
            "id", "name", "description", "airflow", "dag_id", "owner_id", "owner", "is_active", "is_paused",
            "default_parameters", "visibility", "adopts_airflow_runs", "result_task", "hindrance", "created_at",
            "updated_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_hindrance(self, workflow: Workflow) -> str:
        # Read once for each owner, and for each Airflow, in an answer. The rows of a list share their outermost
        # serializer.
        of_answer = self.root.__dict__
        rights: dict[int, DagRights] = of_answer.setdefault("rights_of_owners", {})
        airflows: dict[str, Airflow] = of_answer.setdefault("airflows", {})
        if (name := workflow.dag.airflow_name) not in airflows:
            airflows[name] = Airflow.named(name)
        of_owner = rights.setdefault(workflow.owner_id, DagRights(workflow.owner))
        return mask(why_not_triggerable(workflow, airflow=airflows[name], owners_rights=of_owner))


class ListedWorkflowSerializer(OnDemand, WorkflowSerializer):
    """A workflow in a list. `?include=` shows its default parameters and its hindrance too."""

    on_demand = ("default_parameters", "hindrance")
    default_parameters = serializers.DictField(required=False)


class GrantSerializer(serializers.ModelSerializer[Grant]):
    user = serializers.CharField(source="user.username", read_only=True, allow_null=True)
    group = serializers.CharField(source="group.name", read_only=True, allow_null=True)

    class Meta:
        model = Grant
        fields = ["id", "user", "group", "level", "created_at"]
        read_only_fields = fields
