"""Input and output of the API, apart: what comes in is strict, what goes out shows no target and no secret."""

from __future__ import annotations

from typing import Any
from zoneinfo import available_timezones

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from notifications.models import MOST_IN_FLIGHT, Attempt, Delivery, NotificationConfig, Status
from notifications.services import MOST_SECRETS, TYPES
from notifications.transports import CHANNELS, OFFERED, webhook
from notifications.transports.base import InvalidTargetError
from svops.api import StrictSerializer
from svops.query import LARGEST_INTEGER
from workflows.access import unseen

FIELDS = sorted({transport.field for transport in OFFERED.values()})
_CHANNELS = [(name, transport.label) for name, transport in OFFERED.items()]


class FiltersField(StrictSerializer):
    """An event has to pass each filter that is given; without any, everything that you may see passes."""

    workflows = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=LARGEST_INTEGER), required=False, max_length=500
    )
    tags = serializers.ListField(child=serializers.CharField(max_length=250), required=False, max_length=100)
    states = serializers.ListField(child=serializers.CharField(max_length=30), required=False, max_length=50)
    users = serializers.ListField(child=serializers.IntegerField(min_value=1), required=False, max_length=500)
    duration_over_s = serializers.FloatField(
        required=False, min_value=0, help_text="Of events with a duration, the longer ones only."
    )
    only_on_change = serializers.BooleanField(
        required=False, help_text="Of ends of runs, those only that differ from the end before."
    )

    def validate_workflows(self, ids: list[int]) -> list[int]:
        if missing := unseen(self.context["user"], ids):
            names = ", ".join(map(str, sorted(missing)))
            raise serializers.ValidationError(f"There is no workflow {names}, or none that you may see.")
        return ids


class QuietHoursField(StrictSerializer):
    """What happens in these hours is recorded, and sent when they end."""

    begin = serializers.TimeField(help_text="For example 22:00.")
    end = serializers.TimeField()
    timezone = serializers.CharField(default="UTC", max_length=64, help_text="For example Europe/Berlin.")

    def validate_timezone(self, value: str) -> str:
        if value not in available_timezones():
            raise serializers.ValidationError("This is no time zone of the IANA database, like Europe/Berlin.")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["begin"] == attrs["end"]:
            raise serializers.ValidationError({"end": ["Expected another time than begin: these hours are none."]})
        return attrs


class ConfigInput(StrictSerializer):
    name = serializers.CharField(max_length=200)
    channel = serializers.ChoiceField(choices=_CHANNELS)
    webhook_url = serializers.CharField(required=False, max_length=2_000, help_text="Of slack.")
    url = serializers.CharField(required=False, max_length=2_000, help_text="Of webhook and apprise.")
    recipients = serializers.ListField(
        child=serializers.EmailField(), required=False, max_length=20, help_text="Of email."
    )
    notification_types = serializers.ListField(
        child=serializers.ChoiceField(choices=sorted(TYPES)), min_length=1, max_length=len(TYPES)
    )
    filters = FiltersField(required=False)
    enabled = serializers.BooleanField(required=False)
    for_everyone = serializers.BooleanField(required=False, help_text="Only admins; it then belongs to all of them.")
    fold_repeats = serializers.BooleanField(
        required=False,
        help_text="Repeats of one failure become a digest, and its end is told. The default of all but webhook.",
    )
    quiet_hours = QuietHoursField(required=False, allow_null=True)
    max_in_flight = serializers.IntegerField(required=False, min_value=1, max_value=MOST_IN_FLIGHT)
    secret = serializers.CharField(
        required=False, max_length=200, help_text="Of webhook. The one before it goes on signing beside it."
    )
    secrets = serializers.ListField(
        child=serializers.CharField(max_length=200),
        required=False,
        min_length=1,
        max_length=MOST_SECRETS,
        help_text="Of webhook: all of them, in place of those that there are.",
    )

    def validate_secret(self, secret: str) -> str:
        try:
            return webhook.clean_secret(secret)
        except InvalidTargetError as exc:
            raise serializers.ValidationError(str(exc)) from exc

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        channel = attrs.get("channel") or self.context["channel"]
        if self.partial and channel != self.context["channel"]:
            raise serializers.ValidationError({"channel": ["A config keeps its channel: create another one."]})
        if "secret" in attrs and "secrets" in attrs:
            raise serializers.ValidationError({"secret": ["Give either this or secrets."]})
        if "secret" in attrs and not CHANNELS[channel].takes_secrets:
            raise serializers.ValidationError({"secret": [f"The channel {channel} signs nothing."]})
        return self._quiet(self._target(attrs, CHANNELS[channel].field, channel))

    def _target(self, attrs: dict[str, Any], field: str, channel: str) -> dict[str, Any]:
        if others := (set(FIELDS) - {field}) & attrs.keys():
            raise serializers.ValidationError({name: [f"The channel {channel} has {field}."] for name in others})
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


class ConfigSerializer(serializers.ModelSerializer[NotificationConfig]):
    webhook_url = serializers.SerializerMethodField(help_text="Masked; null for other channels.")
    url = serializers.SerializerMethodField(help_text="Masked; null for other channels.")
    recipients = serializers.SerializerMethodField(help_text="Masked; null for other channels.")
    secret = serializers.SerializerMethodField(help_text="Masked; null where nothing is signed.")
    owner_id = serializers.IntegerField(allow_null=True)
    for_everyone = serializers.SerializerMethodField()
    notification_types = serializers.ListField(child=serializers.CharField())
    filters = FiltersField()
    quiet_hours = serializers.SerializerMethodField()
    failures = serializers.IntegerField(help_text="Tries that failed since the last that did not.")

    class Meta:
        model = NotificationConfig
        fields = [
            "id", "name", "channel", "webhook_url", "url", "recipients", "secret", "owner_id", "for_everyone",
            "notification_types", "filters", "enabled", "disabled_reason", "disabled_at", "fold_repeats",
            "quiet_hours", "max_in_flight", "failures", "paused_until", "created_at", "updated_at",
        ]  # fmt: skip

    def _hint(self, config: NotificationConfig, field: str) -> str | None:
        return config.target_hint if CHANNELS[config.channel].field == field else None

    def get_webhook_url(self, config: NotificationConfig) -> str | None:
        return self._hint(config, "webhook_url")

    def get_url(self, config: NotificationConfig) -> str | None:
        return self._hint(config, "url")

    @extend_schema_field(serializers.ListField(child=serializers.CharField(), allow_null=True))
    def get_recipients(self, config: NotificationConfig) -> list[str] | None:
        hint = self._hint(config, "recipients")
        return hint.split(", ") if hint is not None else None

    def get_secret(self, config: NotificationConfig) -> str | None:
        return "whsec_***" if config.sealed_secrets else None

    def get_for_everyone(self, config: NotificationConfig) -> bool:
        return config.owner_id is None

    @extend_schema_field(QuietHoursField(allow_null=True))
    def get_quiet_hours(self, config: NotificationConfig) -> dict[str, Any] | None:
        if config.quiet_from is None or config.quiet_until is None:
            return None
        return {
            "begin": config.quiet_from.isoformat(),
            "end": config.quiet_until.isoformat(),
            "timezone": config.quiet_timezone,
        }


class NewConfigSerializer(ConfigSerializer):
    new_secret = serializers.CharField(
        required=False, help_text="The secret that was made for a webhook without one. Shown now and never again."
    )

    class Meta(ConfigSerializer.Meta):
        fields = [*ConfigSerializer.Meta.fields, "new_secret"]


class NewSecretSerializer(serializers.Serializer[Any]):
    new_secret = serializers.CharField(help_text="Shown now and never again.")


class DisableInput(StrictSerializer):
    reason = serializers.CharField(required=False, max_length=500)


class TypeSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    event = serializers.CharField(help_text="The type of the event, as in its envelope.")
    description = serializers.CharField()


class DeliveryAttemptSerializer(serializers.ModelSerializer[Attempt]):
    class Meta:
        model = Attempt
        fields = ["number", "outcome", "started_at", "duration_ms", "status_code", "error", "response_excerpt"]


class DeliverySerializer(serializers.ModelSerializer[Delivery]):
    config_id = serializers.IntegerField()
    config_name = serializers.CharField(source="config.name")
    channel = serializers.CharField(source="config.channel")
    event_id = serializers.IntegerField(source="event.position", default=None, allow_null=True)
    event_type = serializers.CharField(source="event.type", default=None, allow_null=True)
    run_id = serializers.UUIDField(source="event.run_id", default=None, allow_null=True)
    workflow_id = serializers.IntegerField(source="event.workflow_id", default=None, allow_null=True)
    digest_id = serializers.IntegerField(allow_null=True, help_text="Of a folded one: the delivery that tells of it.")
    attempts = DeliveryAttemptSerializer(many=True)

    class Meta:
        model = Delivery
        fields = [
            "id", "message_id", "kind", "config_id", "config_name", "channel", "event_id", "event_type", "run_id",
            "workflow_id", "status", "reason", "digest_id", "folded_count", "due_at", "created_at", "finished_at",
            "attempts",
        ]  # fmt: skip


class RedeliverRangeInput(StrictSerializer):
    config_id = serializers.IntegerField(min_value=1)
    since = serializers.DateTimeField()
    until = serializers.DateTimeField(required=False, help_text="Now, when it is not given.")
    status = serializers.ListField(
        child=serializers.ChoiceField(choices=[Status.FAILED, Status.SUPPRESSED, Status.DELIVERED]),
        required=False,
        min_length=1,
        help_text="What became of those that are redelivered; failed by default.",
    )


class RedeliveredSerializer(serializers.Serializer[Any]):
    redelivered = serializers.IntegerField()
