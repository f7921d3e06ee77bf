"""The bodies of requests. Unknown fields are refused."""

from __future__ import annotations

from typing import Any
from zoneinfo import available_timezones

from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from notifications.models import MOST_IN_FLIGHT, Status
from notifications.services import MOST_SECRETS, TYPES
from notifications.transports import CHANNELS, OFFERED, webhook
from notifications.transports.base import InvalidTargetError
from rest.query import LARGEST_INTEGER
from rest.serializers import StrictSerializer
from workflows.access import unseen

FIELDS = sorted({transport.field for transport in OFFERED.values()})
OFFERED_CHANNELS = [(name, transport.label) for name, transport in OFFERED.items()]
_REDELIVERABLE = [Status.FAILED, Status.SUPPRESSED, Status.DELIVERED]


class Filters(StrictSerializer):
    """An event must pass every filter that is given. Without filters, every event that you may see passes."""

    workflows = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=LARGEST_INTEGER), required=False, max_length=500
    )
    tags = serializers.ListField(child=serializers.CharField(max_length=250), required=False, max_length=100)
    states = serializers.ListField(child=serializers.CharField(max_length=30), required=False, max_length=50)
    users = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=LARGEST_INTEGER), required=False, max_length=500
    )
    duration_over_s = serializers.FloatField(
        required=False, min_value=0, help_text="Events with a duration pass only if it is longer than this."
    )
    only_on_change = serializers.BooleanField(
        required=False, help_text="The end of a run passes only if it differs from the end of the run before."
    )

    def validate_workflows(self, ids: list[int]) -> list[int]:
        if missing := unseen(self.context["user"], ids):
            names = ", ".join(map(str, sorted(missing)))
            raise serializers.ValidationError(f"There is no workflow {names}, or you cannot see it.")
        return ids


@extend_schema_field({"type": "string", "pattern": r"^\d{2}:\d{2}(:\d{2}(\.\d+)?)?$"})
class ClockField(serializers.TimeField):
    """A time of day without a zone; the format `time` of JSON Schema has one."""


class QuietHoursInput(StrictSerializer):
    """Events in these hours are recorded, and sent when the hours end."""

    begin = ClockField(help_text="For example 22:00.")
    end = ClockField()
    timezone = serializers.CharField(default="UTC", max_length=64, help_text="For example Europe/Berlin.")

    def validate_timezone(self, value: str) -> str:
        if value not in available_timezones():
            raise serializers.ValidationError("Must be a time zone of the IANA database, like Europe/Berlin.")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["begin"] == attrs["end"]:
            raise serializers.ValidationError({"end": ["Must differ from begin."]})
        return attrs


@extend_schema_serializer(component_name="NotificationConfig")
class ConfigInput(StrictSerializer):
    """A notification config: where messages go, and which events they report."""

    name = serializers.CharField(max_length=200)
    channel = serializers.ChoiceField(choices=OFFERED_CHANNELS)
    webhook_url = serializers.CharField(required=False, max_length=2_000, help_text="The target of the channel slack.")
    url = serializers.CharField(
        required=False, max_length=2_000, help_text="The target of the channels webhook and apprise."
    )
    recipients = serializers.ListField(
        child=serializers.EmailField(), required=False, max_length=20, help_text="The target of the channel email."
    )
    notification_types = serializers.ListField(
        child=serializers.ChoiceField(choices=list(TYPES)), min_length=1, max_length=len(TYPES)
    )
    filters = Filters(required=False)
    enabled = serializers.BooleanField(required=False)
    for_everyone = serializers.BooleanField(
        required=False, help_text="Only for admins. Such a config belongs to all of them."
    )
    fold_repeats = serializers.BooleanField(
        required=False,
        help_text="Send repeats of a failure as a digest, and report its end. True by default, except for webhook.",
    )
    quiet_hours = QuietHoursInput(required=False, allow_null=True)
    max_in_flight = serializers.IntegerField(required=False, min_value=1, max_value=MOST_IN_FLIGHT)
    secret = serializers.CharField(
        required=False,
        max_length=200,
        help_text="Only for webhook. The newest secret so far goes on signing beside it.",
    )
    secrets = serializers.ListField(
        child=serializers.CharField(max_length=200),
        required=False,
        min_length=1,
        max_length=MOST_SECRETS,
        help_text="Only for webhook. Replaces all secrets.",
    )

    def validate_secret(self, secret: str) -> str:
        try:
            return webhook.clean_secret(secret)
        except InvalidTargetError as exc:
            raise serializers.ValidationError(str(exc)) from exc

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        channel = attrs.get("channel") or self.context["channel"]
        if self.partial and channel != self.context["channel"]:
            raise serializers.ValidationError({"channel": ["This cannot change: create another config."]})
        if self.partial and attrs.get("for_everyone", self.context["for_everyone"]) != self.context["for_everyone"]:
            raise serializers.ValidationError({"for_everyone": ["This cannot change: create another config."]})
        if "secret" in attrs and "secrets" in attrs:
            raise serializers.ValidationError({"secret": ["Expected either secret or secrets."]})
        if "secret" in attrs and not CHANNELS[channel].takes_secrets:
            raise serializers.ValidationError({"secret": [f"The channel {channel} does not sign messages."]})
        return self._quiet(self._target(attrs, CHANNELS[channel].field, channel))

    def _target(self, attrs: dict[str, Any], field: str, channel: str) -> dict[str, Any]:
        if others := (set(FIELDS) - {field}) & attrs.keys():
            raise serializers.ValidationError({name: [f"The channel {channel} expects {field}."] for name in others})
        if field in attrs:
            attrs["target"] = attrs.pop(field)
        elif not self.partial:
            raise serializers.ValidationError({field: ["This field is required."]})
        return attrs

    def _quiet(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "quiet_hours" in attrs:
            quiet = attrs.pop("quiet_hours") or {"begin": None, "end": None, "timezone": "UTC"}
            attrs["quiet_from"], attrs["quiet_until"] = quiet["begin"], quiet["end"]
            attrs["quiet_timezone"] = quiet["timezone"]
        return attrs


@extend_schema_serializer(component_name="DisableNotificationConfig")
class DisableInput(StrictSerializer):
    """Why the config is disabled."""

    reason = serializers.CharField(required=False, max_length=500)


class RedeliverRangeInput(StrictSerializer):
    """Which deliveries of a config to send again."""

    config_id = serializers.IntegerField(min_value=1, max_value=LARGEST_INTEGER)
    since = serializers.DateTimeField()
    until = serializers.DateTimeField(required=False, help_text="Now by default.")
    status = serializers.ListField(
        child=serializers.ChoiceField(choices=_REDELIVERABLE),
        required=False,
        min_length=1,
        help_text="Redeliver the deliveries with one of these statuses; failed by default.",
    )
