"""Airflows in requests and answers."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from rest.schema import ErrorSerializer
from rest.serializers import MaskedField, StrictSerializer
from workflows import options as ways
from workflows.airflow.access import NAMES
from workflows.models import Airflow, Run
from workflows.naming import EXPECTED, LONGEST_NAME
from workflows.services.airflows import shown_way

OTHERS = [name for name in ways.TABLE if name not in {"url", "auth"}]

# What the options that are shown can be: texts, numbers, lists of texts.
OPTION_VALUES = {
    "type": "object",
    "additionalProperties": {
        "anyOf": [{"type": "string"}, {"type": "number"}, {"type": "array", "items": {"type": "string"}}]
    },
}


class AirflowSerializer(serializers.ModelSerializer[Airflow]):
    url = serializers.SerializerMethodField()
    auth = serializers.SerializerMethodField(help_text="The way in: " + ", ".join(NAMES) + ".")
    options = serializers.SerializerMethodField(help_text="The other options, without secrets.")
    secrets = serializers.SerializerMethodField(help_text="The names of the secret options that are set.")
    drained = serializers.BooleanField(source="is_drained", help_text="Whether it takes no new runs.")
    stale = serializers.SerializerMethodField(help_text="Whether what is known of its runs may be old.")
    last_error = MaskedField(help_text="Why it did not answer; empty while it does.")
    open_runs = serializers.SerializerMethodField(help_text="How many of its runs have not ended.")

    class Meta:
        model = Airflow
        fields = [
            "name", "url", "auth", "options", "secrets", "is_active", "from_file", "drained", "drained_at",
            "emptied_at", "reachable", "stale", "version", "last_error", "looked_at", "open_runs",
        ]  # fmt: skip
        read_only_fields = fields

    def get_url(self, airflow: Airflow) -> str:
        return shown_way(airflow).url

    def get_auth(self, airflow: Airflow) -> str:
        return shown_way(airflow).auth

    @extend_schema_field(OPTION_VALUES)
    def get_options(self, airflow: Airflow) -> dict[str, Any]:
        return shown_way(airflow).options

    def get_secrets(self, airflow: Airflow) -> list[str]:
        return shown_way(airflow).secrets

    def get_stale(self, airflow: Airflow) -> bool:
        return airflow.is_stale(timezone.now())

    def get_open_runs(self, airflow: Airflow) -> int:
        # Counted once for all in an answer.
        of_answer = self.root.__dict__
        if "open_runs" not in of_answer:
            of_answer["open_runs"] = Run.objects.open_by_airflow()
        return int(of_answer["open_runs"].get(airflow.name, 0))


class OptionsField(serializers.DictField):
    """The options of the way in but `url` and `auth`, which stand beside it. The service checks each."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        options: dict[str, Any] = super().to_internal_value(data)
        if beside := sorted({"url", "auth"} & options.keys()):
            raise serializers.ValidationError({name: ["Expected beside options."] for name in beside})
        return options


class AirflowInUseSerializer(ErrorSerializer):
    """Why an Airflow cannot be deleted."""

    workflows = serializers.IntegerField(required=False, help_text="How many are on it, deleted ones among them.")
    runs = serializers.IntegerField(required=False)


class AirflowChanges(StrictSerializer):
    """The way to an Airflow, and what it is used for."""

    url = serializers.CharField(max_length=ways.LONGEST, help_text="Of Airflow's own pages, without /api.")
    auth = serializers.ChoiceField(choices=NAMES, required=False, help_text="The way in; password by default.")
    options = OptionsField(required=False, help_text="The other options: " + ", ".join(OTHERS) + ".")
    is_active = serializers.BooleanField(required=False, help_text="False: nothing is asked of it.")
    drained = serializers.BooleanField(required=False, help_text="True: it takes no new runs.")


class AirflowInput(StrictSerializer):
    """A further Airflow."""

    name = serializers.CharField(max_length=LONGEST_NAME, help_text=EXPECTED)
    url = serializers.CharField(max_length=ways.LONGEST, help_text="Of Airflow's own pages, without /api.")
    auth = serializers.ChoiceField(choices=NAMES, required=False, help_text="The way in; password by default.")
    options = OptionsField(required=False, help_text="The other options: " + ", ".join(OTHERS) + ".")
    is_active = serializers.BooleanField(required=False, help_text="False: nothing is asked of it.")
