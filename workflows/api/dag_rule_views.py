"""The rules about who may build on which DAG, for admins."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.identity import Scope
from accounts.permissions import current_user
from rest.query import StrictQuery
from rest.serializers import validated
from workflows import services
from workflows.api import examples
from workflows.api.inputs import DagRuleInput
from workflows.dagrules import DagRule


class DagRuleSerializer(serializers.ModelSerializer[DagRule]):
    user = serializers.CharField(source="user.username", read_only=True, allow_null=True)
    group = serializers.CharField(source="group.name", read_only=True, allow_null=True)

    class Meta:
        model = DagRule
        fields = ["id", "airflow", "match", "value", "user", "group", "level", "created_at"]
        read_only_fields = fields


@extend_schema(tags=["dags"])
@extend_schema_view(
    list=extend_schema(
        summary="List DAG rules",
        description="Needs `user:admin`. Without any rule, `DAG_ACCESS` alone decides who may build on DAGs.",
        responses={200: DagRuleSerializer(many=True)},
    ),
    retrieve=extend_schema(
        summary="Get a DAG rule", description="Needs `user:admin`.", responses={200: DagRuleSerializer}
    ),
)
class DagRuleViewSet(StrictQuery, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[DagRule]):
    serializer_class = DagRuleSerializer
    required_scope = Scope.USER_ADMIN
    lookup_value_regex = r"\d{1,18}"
    filterset_fields = ["airflow", "match", "value", "level"]
    ordering_fields = ["id", "match", "value"]

    def get_queryset(self) -> QuerySet[DagRule]:
        return DagRule.objects.select_related("user", "group")

    @extend_schema(
        summary="Open DAGs",
        description=(
            "Needs `user:admin`. Lets a user, every member of a group, or everybody build workflows on the DAGs that "
            "match. The answer is 200 if such a rule had another level, which this one replaces."
        ),
        request=DagRuleInput,
        examples=examples.DAG_RULE,
        responses={200: DagRuleSerializer, 201: DagRuleSerializer},
    )
    def create(self, request: Request) -> Response:
        fields = validated(DagRuleInput, request.data)
        rule, created = services.open_dags(actor=current_user(request), **fields)
        return Response(DagRuleSerializer(rule).data, status=status.HTTP_201_CREATED if created else status.HTTP_200_OK)

    @extend_schema(
        summary="Withdraw a DAG rule",
        description=(
            "Needs `user:admin`. Workflows whose owner needs the rule stay, but nobody can trigger or retry them."
        ),
        responses={204: None},
    )
    def destroy(self, request: Request, pk: str) -> Response:
        services.close_dags(rule=self.get_object(), actor=current_user(request))
        return Response(status=status.HTTP_204_NO_CONTENT)
