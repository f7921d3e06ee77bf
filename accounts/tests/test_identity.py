"""Callers for streams: from a token or a session, checked again at each heartbeat."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient, APIRequestFactory
from rest_framework.views import APIView

from accounts import services
from accounts.authentication import InvalidTokenError, authenticate_token, caller_of, refreshed
from accounts.identity import ROLE_SCOPES, Caller, Scope, Via
from accounts.models import BrowserSession, Role, User


def _caller(user: User) -> Caller:
    return authenticate_token(services.sign_in(user=user).access_token)


def test_each_role_has_the_scopes_of_the_contract() -> None:
    user = {"workflow:read", "workflow:write", "run:trigger", "run:control", "notification:write"}
    assert {
        Role.VIEWER: {"workflow:read"},
        Role.USER: user,
        Role.ADMIN: user | {"user:admin", "audit:read"},
    } == ROLE_SCOPES


def test_a_token_is_authenticated_with_one_query(ada: User, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    token = services.sign_in(user=ada).access_token

    with django_assert_num_queries(1):
        caller = authenticate_token(token)

    assert (caller.user, caller.via, caller.scopes) == (ada, Via.TOKEN, ROLE_SCOPES[Role.USER])
    assert caller.may(Scope.RUN_TRIGGER)
    assert not caller.may(Scope.USER_ADMIN)


@pytest.mark.parametrize("token", ["", "x", "\ud800", "a.b.c", "\0"])
def test_text_that_is_not_a_token_raises_an_error_with_a_code(db: None, token: str) -> None:
    with pytest.raises(InvalidTokenError) as caught:
        authenticate_token(token)

    assert (caught.value.code, caught.value.http_status) == ("invalid_token", 401)


def test_refreshing_a_caller_takes_one_query_and_gives_the_present_rights(
    ada: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    caller = _caller(ada)
    services.change_role(user=ada, role=Role.VIEWER)

    with django_assert_num_queries(1):
        again = refreshed(caller)

    assert again is not None
    assert (again.scopes, again.user.role) == (ROLE_SCOPES[Role.VIEWER], Role.VIEWER)


def test_a_caller_whose_token_has_expired_is_not_refreshed(ada: User) -> None:
    caller = replace(_caller(ada), expires_at=timezone.now() - timedelta(seconds=1))

    assert refreshed(caller) is None


def test_a_logged_out_caller_is_not_refreshed(ada: User) -> None:
    tokens = services.sign_in(user=ada)
    caller = authenticate_token(tokens.access_token)
    services.logout(refresh_token=tokens.refresh_token)

    assert refreshed(caller) is None


def test_no_caller_of_a_deactivated_user_is_refreshed(ada: User) -> None:
    by_token, by_session = _caller(ada), caller_of(ada)
    services.deactivate(user=ada)

    assert (refreshed(by_token), refreshed(by_session)) == (None, None)


def test_signing_out_everywhere_ends_callers_by_token_and_by_session(ada: User) -> None:
    by_token, by_session = _caller(ada), caller_of(User.objects.get(pk=ada.pk))
    services.sign_out_everywhere(user=ada)

    assert (refreshed(by_token), refreshed(by_session)) == (None, None)


def test_a_password_set_by_an_operator_ends_earlier_sign_ins(ada: User) -> None:
    caller = _caller(ada)
    operated = User.objects.get(pk=ada.pk)
    operated.set_password("battery staple 9")
    operated.save()

    assert refreshed(caller) is None


def test_a_caller_by_session_ends_with_the_session(ada: User) -> None:
    browser = APIClient()
    browser.force_login(ada)
    caller = caller_of(ada, session_key=browser.session.session_key)

    alive = refreshed(caller)
    BrowserSession.objects.all().delete()

    assert alive is not None
    assert (alive.via, alive.scopes) == (Via.SESSION, ROLE_SCOPES[Role.USER])
    assert refreshed(caller) is None


class ByMethod(APIView):
    required_scopes = {"GET": Scope.WORKFLOW_READ, "POST": Scope.RUN_TRIGGER}

    def get(self, request: Request) -> Response:
        return Response()

    def post(self, request: Request) -> Response:
        return Response()


class Undeclared(APIView):
    def get(self, request: Request) -> Response:
        return Response()


@pytest.mark.parametrize(
    ("method", "status"), [("get", 200), ("head", 200), ("options", 200), ("post", 403), ("put", 405)]
)
def test_a_view_can_name_a_scope_per_method(vera: User, method: str, status: int) -> None:
    token = services.sign_in(user=vera).access_token
    request = APIRequestFactory().generic(method.upper(), "/", HTTP_AUTHORIZATION=f"Bearer {token}")

    assert ByMethod.as_view()(request).status_code == status


def test_a_view_without_a_scope_answers_nobody(root: User) -> None:
    token = services.sign_in(user=root).access_token
    request = APIRequestFactory().get("/", HTTP_AUTHORIZATION=f"Bearer {token}")

    with pytest.raises(ImproperlyConfigured, match="Undeclared names neither"):
        Undeclared.as_view()(request)
