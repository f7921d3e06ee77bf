"""Tickets: for handing one run to a browser or a person that has no account here."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_view
from rest_framework import mixins, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from accounts.identity import Scope, TicketAction
from accounts.models import Ticket
from accounts.permissions import current_caller, current_user
from accounts.tickets import issue_ticket, revoke_ticket
from svops.api import StrictSerializer
from svops.errors import InvalidInputError
from svops.query import StrictQuery
from workflows.access import require_runner
from workflows.models import Run

ACTIONS = [action.value for action in TicketAction]
RUN = "0b5e7a52-6f0e-4c53-9d0a-6a7f7a7d2f11"
EXAMPLES = [
    OpenApiExample("Watch for five minutes", value={"run_id": RUN, "actions": ["view"], "ttl": 300}, request_only=True)
]


class TicketInput(StrictSerializer):
    run_id = serializers.UUIDField()
    actions = serializers.ListField(child=serializers.ChoiceField(choices=ACTIONS), allow_empty=False)
    ttl = serializers.IntegerField(min_value=1, default=60, help_text="Seconds that it lives.")


class TicketSerializer(serializers.ModelSerializer[Ticket]):
    actions = serializers.ListField(child=serializers.ChoiceField(choices=ACTIONS))

    class Meta:
        model = Ticket
        fields = ["id", "workflow_id", "run_id", "actions", "created_at", "expires_at"]
        read_only_fields = fields


class ShownTicketSerializer(TicketSerializer):
    ticket = serializers.SerializerMethodField(help_text="Shown in this answer and never again.")

    class Meta(TicketSerializer.Meta):
        fields = [*TicketSerializer.Meta.fields, "ticket"]
        read_only_fields = fields

    def get_ticket(self, ticket: Ticket) -> str:
        return str(self.context["ticket"])


@extend_schema(tags=["tickets"])
@extend_schema_view(
    list=extend_schema(
        summary="List my tickets",
        description="Those that are good now.",
        responses={200: TicketSerializer(many=True)},
    )
)
class TicketViewSet(StrictQuery, mixins.ListModelMixin, GenericViewSet[Ticket]):
    serializer_class = TicketSerializer
    required_scope = Scope.WORKFLOW_READ
    follows_bounds = True
    lookup_value_regex = r"\d{1,18}"
    filter_backends = []

    def get_queryset(self) -> QuerySet[Ticket]:
        if getattr(self, "swagger_fake_view", False):
            return Ticket.objects.none()
        caller = current_caller(self.request)
        mine = Ticket.objects.alive(timezone.now()).filter(user=caller.user)
        # A key sees what was issued with it, and nothing of what its user has handed out otherwise.
        return mine if caller.is_person else mine.filter(api_key=caller.api_key_id)

    @extend_schema(
        summary="Issue a ticket",
        description=(
            "For one run and the named actions: `view` (the run, its tasks and events, live streams), `logs`, `stop`, "
            "`retry`. Whoever holds it sends it as `?ticket=` to a stream, or as `Authorization: Ticket <ticket>`. It "
            "never allows more than you may do yourself when it is used."
        ),
        request=TicketInput,
        examples=EXAMPLES,
        responses={201: ShownTicketSerializer},
    )
    def create(self, request: Request) -> Response:
        wanted = TicketInput(data=request.data)
        wanted.is_valid(raise_exception=True)
        run, actions = self._run(wanted.validated_data), [TicketAction(a) for a in wanted.validated_data["actions"]]
        if not {TicketAction.STOP, TicketAction.RETRY}.isdisjoint(actions):
            require_runner(run.workflow, current_user(request))
        made = issue_ticket(
            caller=current_caller(request),
            run_id=run.pk,
            workflow_id=run.workflow_id,
            actions=actions,
            ttl=timedelta(seconds=wanted.validated_data["ttl"]),
        )
        shown = ShownTicketSerializer(made.ticket, context={"ticket": made.text}).data
        return Response(shown, status=status.HTTP_201_CREATED, headers={"Cache-Control": "no-store"})

    def _run(self, wanted: dict[str, Any]) -> Run:
        visible = Run.objects.visible_to(current_user(self.request)).select_related("workflow")
        run = visible.filter(pk=wanted["run_id"]).first()
        if run is None:
            raise InvalidInputError({"run_id": ["There is no such run, or none that you may see."]})
        return run

    @extend_schema(
        summary="Revoke a ticket",
        description="Streams that it has opened end with the next heartbeat.",
        responses={204: None},
    )
    def destroy(self, request: Request, pk: str) -> Response:
        revoke_ticket(ticket=self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)
