"""Tickets in answers."""

from __future__ import annotations

from rest_framework import serializers

from accounts.identity import TicketAction
from accounts.models import Ticket


class TicketSerializer(serializers.ModelSerializer[Ticket]):
    actions = serializers.ListField(child=serializers.ChoiceField(choices=list(TicketAction)))

    class Meta:
        model = Ticket
        fields = ["id", "workflow_id", "run_id", "actions", "created_at", "expires_at"]
        read_only_fields = fields


class ShownTicketSerializer(TicketSerializer):
    ticket = serializers.SerializerMethodField(help_text="Only this answer shows it.")

    class Meta(TicketSerializer.Meta):
        fields = [*TicketSerializer.Meta.fields, "ticket"]
        read_only_fields = fields

    def get_ticket(self, ticket: Ticket) -> str:
        return str(self.context["ticket"])
