"""All users, for administrators."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from accounts import services
from accounts.api import examples, serializers
from accounts.identity import Scope
from accounts.models import User
from rest.filters import Filters, Ordering, Search
from rest.query import StrictQuery
from rest.schema import errors


@extend_schema(tags=["users"])
@extend_schema_view(
    list=extend_schema(
        summary="List users",
        description="Needs `user:admin`. `search` looks in name, username and address.",
        responses={200: serializers.UserSerializer(many=True)},
    ),
    retrieve=extend_schema(
        summary="Get a user",
        description="Needs `user:admin`.",
        examples=[examples.answer(examples.USER)],
        responses={200: serializers.UserSerializer},
    ),
)
class UserViewSet(StrictQuery, mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[User]):
    queryset = User.objects.all()
    serializer_class = serializers.UserSerializer
    required_scope = Scope.USER_ADMIN
    lookup_value_converter = "int"
    filter_backends = [Filters, Ordering, Search]
    filterset_fields = ["role", "is_active"]
    search_fields = ["username", "email", "name"]
    ordering_fields = ["id", "username", "email", "role", "date_joined", "last_login"]

    @extend_schema(
        summary="Create a user",
        description="Needs `user:admin`.",
        request=serializers.NewUserSerializer,
        examples=[
            examples.request(
                {"username": "ada", "email": "ada@example.com", "password": examples.PASSWORD, "role": "viewer"}
            ),
            examples.answer(examples.USER, 201),
        ],
        responses={201: serializers.UserSerializer},
    )
    def create(self, request: Request) -> Response:
        body = serializers.NewUserSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        user = services.create_user(**body.validated_data)
        return Response(self.get_serializer(user).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        summary="Change a user",
        description="Needs `user:admin`. Existing tokens have the rights of a new role from the next request on. "
        "`is_active: false` ends every token and session. The last active administrator keeps role and "
        "account: 409 `last_admin`.",
        request=serializers.ChangeUserSerializer,
        examples=[examples.request({"role": "viewer"}), examples.answer(examples.USER)],
        responses={200: serializers.UserSerializer, **errors(409)},
    )
    def partial_update(self, request: Request, pk: int) -> Response:
        user = self.get_object()
        body = serializers.ChangeUserSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        user = services.update_user(user=user, **body.validated_data)
        return Response(self.get_serializer(user).data)
