"""Tickets: they give a browser or a person without an account access to one run."""

from __future__ import annotations

from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_view
from rest_framework import mixins, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from accounts.identity import Scope, TicketAction
from accounts.models import Ticket
from accounts.permissions import current_caller, current_user
from accounts.tickets import issue_ticket, revoke_ticket
from rest.errors import InvalidInputError
from rest.query import StrictQuery
from rest.serializers import validated
from workflows.access import require_runner
from workflows.api.inputs import TicketInput
from workflows.api.ticket_serializers import ShownTicketSerializer, TicketSerializer
from workflows.models import Run

RUN = "0b5e7a52-6f0e-4c53-9d0a-6a7f7a7d2f11"
EXAMPLES = [
    OpenApiExample("Watch for five minutes", value={"run_id": RUN, "actions": ["view"], "ttl": 300}, request_only=True)
]


@extend_schema(tags=["tickets"])
@extend_schema_view(
    list=extend_schema(
        summary="List my tickets",
        description="Those that have not expired.",
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
        # A key sees the tickets issued with it, and no other tickets of its user.
        return mine if caller.is_person else mine.filter(api_key=caller.api_key_id)

    @extend_schema(
        summary="Issue a ticket",
        description=(
            "For one run and the named actions: `view` (the run, its tasks and events, live streams), `logs`, `stop`, "
            "`retry`. Its holder sends it as `?ticket=` to a stream, or as `Authorization: Ticket <ticket>`. It never "
            "allows more than you may do yourself at the time of its use."
        ),
        request=TicketInput,
        examples=EXAMPLES,
        responses={201: ShownTicketSerializer},
    )
    def create(self, request: Request) -> Response:
        asked = validated(TicketInput, request.data)
        run, actions = self._run(asked["run_id"]), [TicketAction(name) for name in asked["actions"]]
        if not {TicketAction.STOP, TicketAction.RETRY}.isdisjoint(actions):
            require_runner(run.workflow, current_user(request))
        made = issue_ticket(
            caller=current_caller(request),
            run_id=run.pk,
            workflow_id=run.workflow_id,
            actions=actions,
            seconds=asked["ttl"],
        )
        shown = ShownTicketSerializer(made.ticket, context={"ticket": made.text}).data
        return Response(shown, status=status.HTTP_201_CREATED, headers={"Cache-Control": "no-store"})

    def _run(self, run_id: UUID) -> Run:
        visible = Run.objects.visible_to(current_user(self.request)).select_related("workflow")
        run = visible.filter(pk=run_id).first()
        if run is None:
            raise InvalidInputError({"run_id": ["There is no such run, or you cannot see it."]})
        return run

    @extend_schema(
        summary="Revoke a ticket",
        description="Streams opened with it end with the next heartbeat.",
        responses={204: None},
    )
    def destroy(self, request: Request, pk: str) -> Response:
        revoke_ticket(ticket=self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)
