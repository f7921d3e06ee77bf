"""The Airflows behind SVOps, for admins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins, status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.identity import Scope
from accounts.permissions import current_user
from rest.errors import InvalidInputError
from rest.query import StrictQuery
from rest.schema import errors
from rest.serializers import validated
from workflows import services
from workflows.api import examples
from workflows.api.airflow_serializers import (
    AirflowChanges,
    AirflowInput,
    AirflowInUseSerializer,
    AirflowSerializer,
)
from workflows.models import Airflow
from workflows.naming import PATTERN

# The fields that errors name as the service does. The others are options.
BESIDE_OPTIONS = ("name", "url", "auth", "options")


@extend_schema(tags=["airflows"])
@extend_schema_view(
    list=extend_schema(
        summary="List Airflows",
        description="Needs `user:admin`. The one that the settings describe is called `default`.",
        responses={200: AirflowSerializer(many=True)},
    ),
    retrieve=extend_schema(
        summary="Get an Airflow",
        description="Needs `user:admin`. Secrets are never shown; `secrets` names those that are set.",
        responses={200: AirflowSerializer},
    ),
)
class AirflowViewSet(StrictQuery, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Airflow]):
    queryset = Airflow.objects.all()
    serializer_class = AirflowSerializer
    required_scope = Scope.USER_ADMIN
    lookup_field = "name"
    lookup_value_regex = PATTERN
    filterset_fields = ["is_active", "reachable"]
    ordering_fields = ["id", "name"]

    @extend_schema(
        summary="Add an Airflow",
        description=(
            "Needs `user:admin`. `options` are those of the settings `AIRFLOW_…`, in lower-case letters. What reads a "
            "file or runs a program on SVOps' server, or uses its identity, is accepted only in `AIRFLOWS_FILE`."
        ),
        request=AirflowInput,
        examples=examples.AIRFLOW,
        responses={201: AirflowSerializer},
    )
    def create(self, request: Request) -> Response:
        fields = validated(AirflowInput, request.data)
        with _named_as_in_the_body():
            airflow = services.create_airflow(actor=current_user(request), options=_options(fields), **fields)
        return Response(self._shown(airflow), status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Change an Airflow, or drain it",
        description=(
            "Needs `user:admin`. Options that are not sent stay; null takes one away. With another address, each "
            "secret is sent anew. `drained: true` lets it take no new runs; `system.airflow_emptied` tells when the "
            "last one has ended. The options of the default Airflow are those of the settings."
        ),
        request=AirflowChanges(partial=True),
        responses={200: AirflowSerializer},
    )
    def partial_update(self, request: Request, name: str) -> Response:
        airflow = self.get_object()
        fields = validated(AirflowChanges, request.data, partial=True)
        options = _options(fields)
        with _named_as_in_the_body():
            airflow = services.change_airflow(
                actor=current_user(request), airflow=airflow, options=options or None, **fields
            )
        return Response(self._shown(airflow))

    @extend_schema(
        summary="Delete an Airflow",
        description="Needs `user:admin`. Refused while workflows or runs are on it, and for the default one.",
        responses={204: None, **errors(409, shape=AirflowInUseSerializer)},
    )
    def destroy(self, request: Request, name: str) -> Response:
        services.delete_airflow(airflow=self.get_object(), actor=current_user(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _shown(self, airflow: Airflow) -> dict[str, Any]:
        return dict(self.get_serializer(airflow).data)


@contextmanager
def _named_as_in_the_body() -> Iterator[None]:
    """Name the options in errors as the body does."""
    try:
        yield
    except InvalidInputError as exc:
        renamed = {name if name in BESIDE_OPTIONS else f"options.{name}": texts for name, texts in exc.errors.items()}
        raise InvalidInputError(renamed) from exc


def _options(fields: dict[str, Any]) -> dict[str, Any]:
    """Take the options out of the fields."""
    options = fields.pop("options", {})
    return {**options, **{name: fields.pop(name) for name in ("url", "auth") if name in fields}}
