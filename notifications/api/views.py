"""Configs, the types that can be wanted, and the ledger of deliveries."""

from __future__ import annotations

import inspect
from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.identity import Scope
from accounts.permissions import current_user
from notifications import services
from notifications.api import examples
from notifications.api.filters import ConfigFilter, DeliveryFilter
from notifications.api.serializers import (
    ConfigInput,
    ConfigSerializer,
    DeliverySerializer,
    DisableInput,
    NewConfigSerializer,
    NewSecretSerializer,
    RedeliveredSerializer,
    RedeliverRangeInput,
    TypeSerializer,
)
from notifications.models import Delivery, NotificationConfig
from svops.api import KeysetPages, NoInput
from svops.query import StrictQuery
from svops.schema import errors
from workflows.events import CATALOGUE

SCOPES = {
    "GET": Scope.WORKFLOW_READ,
    "POST": Scope.NOTIFICATION_WRITE,
    "PATCH": Scope.NOTIFICATION_WRITE,
    "DELETE": Scope.NOTIFICATION_WRITE,
}


@extend_schema(tags=["notifications"])
@extend_schema_view(
    list=extend_schema(
        summary="List notification configs",
        description="Your own; for admins those for everyone too. Targets and secrets are masked.",
        responses={200: ConfigSerializer},
    ),
    retrieve=extend_schema(
        summary="Get a notification config",
        description="Target and secrets are masked.",
        responses={200: ConfigSerializer},
    ),
)
class ConfigViewSet(StrictQuery, viewsets.ReadOnlyModelViewSet[NotificationConfig]):
    serializer_class = ConfigSerializer
    lookup_value_regex = r"\d{1,18}"
    filterset_class = ConfigFilter
    ordering_fields = ["id", "name", "created_at", "updated_at"]
    required_scopes = SCOPES

    def get_queryset(self) -> QuerySet[NotificationConfig]:
        visible = NotificationConfig.objects.visible_to(self.request.user)
        return visible.select_related("owner").prefetch_related("subscriptions")

    @extend_schema(
        summary="Create a notification config",
        description=(
            "The target is resolved and refused when it is not public. A webhook without `secret` is given one, "
            "which is shown in this answer as `new_secret` and never again."
        ),
        request=ConfigInput,
        examples=examples.CONFIG,
        responses={201: NewConfigSerializer},
    )
    def create(self, request: Request) -> Response:
        wanted = ConfigInput(data=request.data, context={"user": current_user(request)})
        wanted.is_valid(raise_exception=True)
        values = _secrets(wanted.validated_data)
        config = services.create_config(actor=current_user(request), **values)
        answer = ConfigSerializer(config).data
        if config.sealed_secrets and not values.get("secrets"):
            answer["new_secret"] = config.secrets[0]
        return Response(answer, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Change a notification config",
        description="Fields that are not sent stay as they are; `filters` and `notification_types` are replaced whole.",
        request=ConfigInput(partial=True),
        responses={200: ConfigSerializer},
    )
    def partial_update(self, request: Request, pk: str) -> Response:
        config = self.get_object()
        context = {"user": current_user(request), "channel": config.channel}
        wanted = ConfigInput(data=request.data, partial=True, context=context)
        wanted.is_valid(raise_exception=True)
        values = _secrets(wanted.validated_data, config)
        values.pop("channel", None)
        return Response(ConfigSerializer(services.update_config(config=config, **values)).data)

    @extend_schema(
        summary="Delete a notification config",
        description="What is owed to it is suppressed; its ledger is kept.",
        responses={204: None},
    )
    def destroy(self, request: Request, pk: str) -> Response:
        services.delete_config(config=self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(
        summary="Send a test",
        description="Sends at once and waits; the delivery's one attempt says what the receiver answered.",
        request=None,
        responses={200: DeliverySerializer, **errors(409)},
    )
    @action(detail=True, methods=["post"], filterset_class=None)
    def test(self, request: Request, pk: str) -> Response:
        NoInput(data=request.data).is_valid(raise_exception=True)
        return Response(DeliverySerializer(services.send_test(config=self.get_object())).data)

    @extend_schema(
        summary="Enable a notification config",
        description="What was suppressed meanwhile stays so until it is redelivered.",
        request=None,
        responses={200: ConfigSerializer},
    )
    @action(detail=True, methods=["post"], filterset_class=None)
    def enable(self, request: Request, pk: str) -> Response:
        NoInput(data=request.data).is_valid(raise_exception=True)
        return Response(ConfigSerializer(services.enable(config=self.get_object())).data)

    @extend_schema(
        summary="Disable a notification config",
        description="What is owed to it, and what it would get until it is enabled again, is recorded as suppressed.",
        request=DisableInput,
        responses={200: ConfigSerializer},
    )
    @action(detail=True, methods=["post"], filterset_class=None)
    def disable(self, request: Request, pk: str) -> Response:
        config = self.get_object()
        wanted = DisableInput(data=request.data)
        wanted.is_valid(raise_exception=True)
        return Response(ConfigSerializer(services.disable(config=config, **wanted.validated_data)).data)

    @extend_schema(
        summary="Rotate the secret of a webhook",
        description="Makes a new one. The one before it goes on signing beside it until the next rotation.",
        request=None,
        responses={200: NewSecretSerializer},
    )
    @action(detail=True, methods=["post"], url_path="rotate-secret", filterset_class=None)
    def rotate_secret(self, request: Request, pk: str) -> Response:
        NoInput(data=request.data).is_valid(raise_exception=True)
        return Response({"new_secret": services.rotate_secret(config=self.get_object())})


def _secrets(values: dict[str, Any], config: NotificationConfig | None = None) -> dict[str, Any]:
    """`secret` as a list: in front of the newest one that there is."""
    if secret := values.pop("secret", None):
        values["secrets"] = [secret, *(config.secrets[:1] if config else [])]
    return values


@extend_schema(tags=["notifications"])
class TypesView(StrictQuery, APIView):
    required_scope = Scope.WORKFLOW_READ

    @extend_schema(
        operation_id="notification_types_list",
        summary="List what can be notified of",
        responses={200: TypeSerializer(many=True)},
    )
    def get(self, request: Request) -> Response:
        types = [
            {"name": name, "event": event, "description": inspect.getdoc(CATALOGUE[event]) or ""}
            for name, event in services.TYPES.items()
        ]
        return Response(TypeSerializer(types, many=True).data)


class DeliveryPages(KeysetPages):
    ordering = "-created_at"


@extend_schema(tags=["notifications"])
@extend_schema_view(
    list=extend_schema(
        summary="List deliveries",
        description="The ledger, newest first, paged by keyset: what was owed, each attempt, why it was not sent.",
        responses={200: DeliverySerializer},
    ),
    retrieve=extend_schema(
        summary="Get a delivery",
        description="With every attempt.",
        responses={200: DeliverySerializer},
    ),
)
class DeliveryViewSet(StrictQuery, viewsets.ReadOnlyModelViewSet[Delivery]):
    serializer_class = DeliverySerializer
    pagination_class = DeliveryPages
    lookup_value_regex = r"\d{1,18}"
    filterset_class = DeliveryFilter
    ordering_fields = ["created_at", "due_at"]
    required_scopes = SCOPES

    def get_queryset(self) -> QuerySet[Delivery]:
        mine = NotificationConfig.objects.visible_to(self.request.user)
        return Delivery.objects.filter(config__in=mine).select_related("config", "event").prefetch_related("attempts")

    @extend_schema(
        summary="Redeliver",
        description="Puts it on the schedule again, from its start, under the same message id.",
        request=None,
        responses={200: DeliverySerializer, **errors(409)},
    )
    @action(detail=True, methods=["post"], filterset_class=None)
    def redeliver(self, request: Request, pk: str) -> Response:
        NoInput(data=request.data).is_valid(raise_exception=True)
        return Response(DeliverySerializer(services.redeliver(delivery=self.get_object())).data)

    @extend_schema(
        operation_id="notifications_deliveries_redeliver_range",
        summary="Redeliver a range of time",
        description="What was owed to one config in that time, and was given up or suppressed.",
        request=RedeliverRangeInput,
        examples=examples.RANGE,
        responses={200: RedeliveredSerializer, **errors(404, 409)},
    )
    @action(detail=False, methods=["post"], url_path="redeliver", filterset_class=None, pagination_class=None)
    def redeliver_range(self, request: Request) -> Response:
        wanted = RedeliverRangeInput(data=request.data)
        wanted.is_valid(raise_exception=True)
        values = wanted.validated_data
        config = get_object_or_404(NotificationConfig.objects.visible_to(request.user), pk=values["config_id"])
        count = services.redeliver_range(
            config=config,
            since=values["since"],
            until=values.get("until") or timezone.now(),
            **({"statuses": values["status"]} if "status" in values else {}),
        )
        return Response({"redelivered": count})
