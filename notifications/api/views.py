"""Configs, notification types, and the ledger of deliveries."""

from __future__ import annotations

import inspect
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import status, viewsets
from rest_framework.decorators import action
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.identity import Scope
from accounts.permissions import current_user
from notifications import services
from notifications.api import examples
from notifications.api.filters import ConfigFilter, DeliveryFilter
from notifications.api.inputs import ConfigInput, DisableInput, RedeliverRangeInput
from notifications.api.serializers import (
    ConfigSerializer,
    DeliverySerializer,
    NewConfigSerializer,
    NewSecretSerializer,
    RedeliveredSerializer,
    ScheduledSerializer,
    TypeSerializer,
)
from notifications.models import Delivery, NotificationConfig
from rest.errors import InvalidInputError
from rest.pages import KeysetPages
from rest.query import StrictQuery
from rest.schema import errors
from rest.serializers import NoInput
from workflows.eventlog.events import CATALOGUE

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
        description="Your own configs, and for admins those for everyone too. Targets and secrets are masked.",
        responses={200: ConfigSerializer},
    ),
    retrieve=extend_schema(
        summary="Get a notification config",
        description="Its target and secrets are masked.",
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
            "SVOps resolves the target and refuses it if it is not public. A webhook without `secret` gets a new one. "
            "Only this answer shows it, as `new_secret`."
        ),
        request=ConfigInput,
        examples=examples.CONFIG,
        responses={201: NewConfigSerializer},
    )
    def create(self, request: Request) -> Response:
        given = ConfigInput(data=request.data, context={"user": current_user(request)})
        given.is_valid(raise_exception=True)
        values = _secrets(given.validated_data)
        config = services.create_config(actor=current_user(request), **values)
        answer = ConfigSerializer(config).data
        if config.sealed_secrets and not values.get("secrets"):
            answer["new_secret"] = config.secrets[0]
        return Response(answer, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Change a notification config",
        description="Fields that you do not send keep their values. `filters` and `notification_types` are replaced.",
        request=ConfigInput(partial=True),
        responses={200: ConfigSerializer},
    )
    def partial_update(self, request: Request, pk: str) -> Response:
        config = self.get_object()
        context = {
            "user": current_user(request),
            "channel": config.channel,
            "for_everyone": config.owner_id is None,
        }
        given = ConfigInput(data=request.data, partial=True, context=context)
        given.is_valid(raise_exception=True)
        values = _secrets(given.validated_data, config)
        for unchanging in ("channel", "for_everyone"):
            values.pop(unchanging, None)
        return Response(ConfigSerializer(services.update_config(config=config, **values)).data)

    @extend_schema(
        summary="Delete a notification config",
        description="Suppresses its waiting deliveries. Its ledger is kept.",
        responses={204: None},
    )
    def destroy(self, request: Request, pk: str) -> Response:
        services.delete_config(config=self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(
        summary="Send a test notification",
        description="Sends at once and waits. The one attempt of the delivery shows what the receiver answered.",
        request=None,
        responses={200: DeliverySerializer, **errors(409)},
    )
    @action(detail=True, methods=["post"], filterset_class=None)
    def test(self, request: Request, pk: str) -> Response:
        NoInput(data=request.data).is_valid(raise_exception=True)
        return Response(
            DeliverySerializer(services.send_test(config=self.get_object(), actor=current_user(request))).data
        )

    @extend_schema(
        operation_id="ask_recipients",
        summary="Ask the recipients of a config",
        description="Each recipient who has to agree first gets a link within seconds: all but your own address and "
        "the domains that an operator allows. Nobody gets a second link within a day, and who refused gets none. While "
        "the mail server does not take it, it is tried again for about a day.",
        request=None,
        responses={200: ConfigSerializer},
    )
    @action(detail=True, methods=["post"], url_path="ask-recipients", filterset_class=None)
    def ask_recipients(self, request: Request, pk: str) -> Response:
        NoInput(data=request.data).is_valid(raise_exception=True)
        config = self.get_object()
        if config.channel == "email":
            services.ask_recipients(config=config)
        return Response(ConfigSerializer(config).data)

    @extend_schema(
        summary="Enable a notification config",
        description="What was suppressed meanwhile stays suppressed until you redeliver it.",
        request=None,
        responses={200: ConfigSerializer},
    )
    @action(detail=True, methods=["post"], filterset_class=None)
    def enable(self, request: Request, pk: str) -> Response:
        NoInput(data=request.data).is_valid(raise_exception=True)
        return Response(ConfigSerializer(services.enable(config=self.get_object())).data)

    @extend_schema(
        summary="Disable a notification config",
        description="Suppresses its waiting deliveries, and records new ones as suppressed until it is enabled again.",
        request=DisableInput,
        responses={200: ConfigSerializer},
    )
    @action(detail=True, methods=["post"], filterset_class=None)
    def disable(self, request: Request, pk: str) -> Response:
        config = self.get_object()
        given = DisableInput(data=request.data)
        given.is_valid(raise_exception=True)
        return Response(ConfigSerializer(services.disable(config=config, **given.validated_data)).data)

    @extend_schema(
        operation_id="rotate_notification_secret",
        summary="Rotate the secret of a webhook",
        description="Creates a new secret. The newest one so far goes on signing beside it until the next rotation.",
        request=None,
        responses={200: NewSecretSerializer},
    )
    @action(detail=True, methods=["post"], url_path="rotate-secret", filterset_class=None)
    def rotate_secret(self, request: Request, pk: str) -> Response:
        NoInput(data=request.data).is_valid(raise_exception=True)
        return Response({"new_secret": services.rotate_secret(config=self.get_object())})


def _secrets(values: dict[str, Any], config: NotificationConfig | None = None) -> dict[str, Any]:
    """Turn `secret` into `secrets`: the new one first, then the newest one so far."""
    if secret := values.pop("secret", None):
        values["secrets"] = [secret, *(config.secrets[:1] if config else [])]
    return values


@extend_schema(tags=["notifications"])
class TypesView(StrictQuery, GenericAPIView[Any]):
    query_parameters = {"GET": {"page", "page_size"}}
    filter_backends = []
    required_scope = Scope.WORKFLOW_READ

    @extend_schema(
        operation_id="list_notification_types",
        summary="List notification types",
        description="One for each type of event in the catalogue.",
        responses={200: TypeSerializer(many=True)},
    )
    def get(self, request: Request) -> Response:
        types = [
            {"name": name, "event": event, "description": inspect.getdoc(CATALOGUE[event]) or ""}
            for name, event in services.TYPES.items()
        ]
        page = self.paginate_queryset(types)
        return self.get_paginated_response(TypeSerializer(page, many=True).data)


class DeliveryPages(KeysetPages):
    ordering = "-created_at"


@extend_schema(tags=["notifications"])
@extend_schema_view(
    list=extend_schema(
        operation_id="list_deliveries",
        summary="List deliveries",
        description="The ledger, newest first, paged by keyset: each delivery, its attempts, and why it was not sent.",
        responses={200: DeliverySerializer},
    ),
    retrieve=extend_schema(
        operation_id="get_delivery",
        summary="Get a delivery",
        description="It contains every attempt.",
        responses={200: DeliverySerializer},
    ),
)
class DeliveryViewSet(StrictQuery, viewsets.ReadOnlyModelViewSet[Delivery]):
    serializer_class = DeliverySerializer
    pagination_class = DeliveryPages
    lookup_value_regex = r"\d{1,18}"
    filterset_class = DeliveryFilter
    several_times = ("status", "kind")
    ordering_fields = ["created_at", "due_at"]
    required_scopes = SCOPES

    def get_queryset(self) -> QuerySet[Delivery]:
        mine = NotificationConfig.objects.visible_to(self.request.user)
        return Delivery.objects.filter(config__in=mine).select_related("config", "event").prefetch_related("attempts")

    @extend_schema(
        operation_id="redeliver",
        summary="Redeliver a delivery",
        description="Schedules it again, from the first try on, under the same message id.",
        request=None,
        responses={200: DeliverySerializer, **errors(409, shape=ScheduledSerializer)},
    )
    @action(detail=True, methods=["post"], filterset_class=None)
    def redeliver(self, request: Request, pk: str) -> Response:
        NoInput(data=request.data).is_valid(raise_exception=True)
        return Response(DeliverySerializer(services.redeliver(delivery=self.get_object())).data)

    @extend_schema(
        operation_id="redeliver_range",
        summary="Redeliver the deliveries of a time range",
        description="Schedules the deliveries of a config again that were created in that time, if their status fits.",
        request=RedeliverRangeInput,
        examples=examples.RANGE,
        responses={200: RedeliveredSerializer, **errors(409, shape=ScheduledSerializer)},
    )
    @action(detail=False, methods=["post"], url_path="redeliver", filterset_class=None, pagination_class=None)
    def redeliver_range(self, request: Request) -> Response:
        given = RedeliverRangeInput(data=request.data)
        given.is_valid(raise_exception=True)
        values = given.validated_data
        config = NotificationConfig.objects.visible_to(request.user).filter(pk=values["config_id"]).first()
        if config is None:
            raise InvalidInputError({"config_id": ["There is no such config, or you cannot see it."]})
        count = services.redeliver_range(
            config=config,
            since=values["since"],
            until=values.get("until") or timezone.now(),
            **({"statuses": values["status"]} if "status" in values else {}),
        )
        return Response({"redelivered": count})
