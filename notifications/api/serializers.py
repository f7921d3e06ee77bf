"""The bodies of answers. No target and no secret is shown."""

from __future__ import annotations

from typing import Any, cast

from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from notifications import consents
from notifications.api.inputs import ClockField, Filters
from notifications.models import Attempt, Delivery, NotificationConfig, Status
from notifications.services import TYPES
from notifications.transports import CHANNELS
from rest.schema import ErrorSerializer
from rest.sealing import UnsealableError
from workflows.eventlog.events import CATALOGUE


class QuietHoursSerializer(serializers.Serializer[Any]):
    """Hours in which deliveries are held."""

    begin = ClockField()
    end = ClockField()
    timezone = serializers.CharField(help_text="A time zone of the IANA database.")


@extend_schema_serializer(component_name="UnconfirmedRecipient")
class UnconfirmedSerializer(serializers.Serializer[Any]):
    """A recipient of e-mail who has to agree first."""

    recipient = serializers.CharField(help_text="Masked.")
    asked_at = serializers.DateTimeField(allow_null=True, help_text="When the last link was sent.")
    link_due_at = serializers.DateTimeField(
        allow_null=True, help_text="When a link is sent next; later than now if the mail server did not take it."
    )
    refused = serializers.BooleanField(help_text="Whether the recipient refused.")


@extend_schema_serializer(component_name="NotificationConfig")
class ConfigSerializer(serializers.ModelSerializer[NotificationConfig]):
    """A notification config. Its target and secrets are masked."""

    channel = serializers.ChoiceField(choices=list(CHANNELS))
    webhook_url = serializers.SerializerMethodField(help_text="Masked. Null for other channels than slack.")
    url = serializers.SerializerMethodField(help_text="Masked. Null for other channels than webhook and apprise.")
    recipients = serializers.SerializerMethodField(help_text="Masked. Null for other channels than email.")
    unconfirmed_recipients = serializers.SerializerMethodField(
        help_text="Recipients of e-mail who have to agree first. They get a link, and nothing else."
    )
    secret = serializers.SerializerMethodField(help_text="Masked. Null if messages are not signed.")
    owner_id = serializers.IntegerField(allow_null=True, help_text="Null for a config for everyone.")
    for_everyone = serializers.SerializerMethodField()
    notification_types = serializers.ListField(child=serializers.ChoiceField(choices=list(TYPES)))
    filters = Filters()
    quiet_hours = serializers.SerializerMethodField()

    class Meta:
        model = NotificationConfig
        fields = [
            "id", "name", "channel", "webhook_url", "url", "recipients", "unconfirmed_recipients", "secret",
            "owner_id", "for_everyone",
            "notification_types", "filters", "enabled", "disabled_reason", "disabled_at", "fold_repeats",
            "quiet_hours", "max_in_flight", "failures", "paused_until", "created_at", "updated_at",
        ]  # fmt: skip
        read_only_fields = fields  # the schema then says that each of them is always there

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

    @extend_schema_field(UnconfirmedSerializer(many=True))
    def get_unconfirmed_recipients(self, config: NotificationConfig) -> list[dict[str, Any]]:
        if config.channel != "email" or config.deleted_at is not None:
            return []
        # Once for all configs of an owner in a list.
        by_owner = cast(dict[str, Any], self.context).setdefault("consents", {})
        if config.owner_id not in by_owner:
            by_owner[config.owner_id] = consents.of_owner(config.owner)
        try:
            rows = consents.unconfirmed(config, by_owner[config.owner_id])
        except UnsealableError:
            return []
        return list(UnconfirmedSerializer(rows, many=True).data)

    def get_secret(self, config: NotificationConfig) -> str | None:
        return "whsec_***" if config.sealed_secrets else None

    def get_for_everyone(self, config: NotificationConfig) -> bool:
        return config.owner_id is None

    @extend_schema_field(QuietHoursSerializer(allow_null=True))
    def get_quiet_hours(self, config: NotificationConfig) -> dict[str, str] | None:
        if config.quiet_from is None or config.quiet_until is None:
            return None
        return {
            "begin": config.quiet_from.isoformat(),
            "end": config.quiet_until.isoformat(),
            "timezone": config.quiet_timezone,
        }


@extend_schema_serializer(component_name="NewNotificationConfig")
class NewConfigSerializer(ConfigSerializer):
    """A new notification config, with the secret that was created for it."""

    new_secret = serializers.CharField(
        required=False,
        help_text="The secret that was created because none was sent. It is shown only now. Only for webhook.",
    )

    class Meta(ConfigSerializer.Meta):
        fields = [*ConfigSerializer.Meta.fields, "new_secret"]


class NewSecretSerializer(serializers.Serializer[Any]):
    """The new secret of a webhook."""

    new_secret = serializers.CharField(help_text="It is shown only now.")


class ScheduledSerializer(ErrorSerializer):
    """Why the delivery is not scheduled: it is already, or its config is disabled."""

    status = serializers.ChoiceField(choices=Status.choices, required=False)
    reason = serializers.CharField(required=False, help_text="Why the config is disabled.")


@extend_schema_serializer(component_name="NotificationTypeInfo")
class TypeSerializer(serializers.Serializer[Any]):
    """A type of event that configs can subscribe to."""

    name = serializers.ChoiceField(choices=list(TYPES))
    event = serializers.ChoiceField(choices=list(CATALOGUE), help_text="The type of the event, as in its envelope.")
    description = serializers.CharField()


class DeliveryAttemptSerializer(serializers.ModelSerializer[Attempt]):
    """One try to send a delivery."""

    class Meta:
        model = Attempt
        fields = ["number", "outcome", "started_at", "duration_ms", "status_code", "error", "response_excerpt"]
        read_only_fields = fields


class RecipientSerializer(serializers.Serializer[Any]):
    """The result for one recipient of an e-mail."""

    recipient = serializers.CharField(source="shown", help_text="Masked.")
    outcome = serializers.ChoiceField(
        choices=["accepted", "refused", "waiting", "unconfirmed"],
        help_text="`unconfirmed`: the recipient has not agreed to get mails.",
    )
    answer = serializers.CharField(source="said", help_text="The words of the mail server, or why it was not asked.")


class DeliverySerializer(serializers.ModelSerializer[Delivery]):
    """One message for one config, with its attempts."""

    config_id = serializers.IntegerField()
    config_name = serializers.CharField(source="config.name")
    channel = serializers.ChoiceField(source="config.channel", choices=list(CHANNELS))
    event_id = serializers.IntegerField(source="event.position", read_only=True, allow_null=True)
    event_type = serializers.ChoiceField(source="event.type", read_only=True, allow_null=True, choices=list(CATALOGUE))
    run_id = serializers.UUIDField(source="event.run_id", read_only=True, allow_null=True)
    workflow_id = serializers.IntegerField(source="event.workflow_id", read_only=True, allow_null=True)
    digest_id = serializers.IntegerField(allow_null=True, help_text="The digest that counts this folded delivery.")
    recipients = RecipientSerializer(many=True, help_text="Only for email: the result for each recipient so far.")
    attempts = DeliveryAttemptSerializer(many=True)

    class Meta:
        model = Delivery
        fields = [
            "id", "message_id", "kind", "config_id", "config_name", "channel", "event_id", "event_type", "run_id",
            "workflow_id", "status", "reason", "digest_id", "folded_count", "due_at", "created_at", "finished_at",
            "recipients", "attempts",
        ]  # fmt: skip
        read_only_fields = fields


class RedeliveredSerializer(serializers.Serializer[Any]):
    """The result of a redelivery."""

    redelivered = serializers.IntegerField(help_text="How many deliveries are scheduled again.")
