"""Events in answers: the envelope. `event_schema` adds the `data` of each type."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from workflows.eventlog.events import CATALOGUE
from workflows.models import Event


class EventSerializer(serializers.ModelSerializer[Event]):
    """The envelope, the same on every transport. `data` depends on `type`."""

    id = serializers.IntegerField(source="position", help_text="The cursor.")
    type = serializers.ChoiceField(choices=list(CATALOGUE))
    workflow_id = serializers.IntegerField(allow_null=True)
    run_id = serializers.UUIDField(allow_null=True)
    task_id = serializers.CharField(read_only=True, allow_null=True, help_text="Airflow's name of the task.")
    user_id = serializers.IntegerField(allow_null=True)
    data = serializers.DictField()  # type: ignore[assignment]  # the field is named as on the wire

    class Meta:
        model = Event
        fields = ["id", "seq", "type", "workflow_id", "run_id", "task_id", "user_id", "timestamp", "data"]
        read_only_fields = fields


class EventPageSerializer(serializers.Serializer[Any]):
    cursor = serializers.IntegerField(help_text="Send it as `after` next time.")
    results = EventSerializer(many=True)
