"""A refusal says what would have been right."""

from __future__ import annotations

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts import services
from accounts.models import User
from tests.access.world import World, client_of

RUNS = "/api/v1/runs"
REGISTER = "/api/v1/auth/register"


@pytest.fixture
def admin(world: World) -> APIClient:
    return client_of(services.sign_in(user=world.users["admin"]).access_token)


def test_another_type_of_body_names_the_right_one(admin: APIClient) -> None:
    answer = admin.post("/api/v1/workflows", "name=x", content_type="text/plain")

    assert answer.status_code == 415
    assert answer.json()["detail"] == 'Unsupported media type "text/plain" in request. Expected application/json.'


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("header", "named"),
    [
        ("Basic YWRhOnNlY3JldA==", "has the scheme Basic"),
        ("Token abcdef", "has the scheme Token"),
        ("eyJhbGciOiJIUzI1NiJ9.e30.secret", "has no scheme"),
        ("svops_key secret", "has no scheme"),
    ],
)
@pytest.mark.parametrize("path", [RUNS, "/api/v1/events/stream"])
def test_another_scheme_of_authorization_names_the_right_one_and_no_secret(path: str, header: str, named: str) -> None:
    """Before: the answer was as without the header."""
    answer = Client().get(path, headers={"authorization": header})

    assert answer.status_code == 401
    expected = f"The header Authorization {named}; expected the scheme Bearer before the token."
    assert answer.json()["detail"] == expected


def test_an_unknown_format_is_not_acceptable(admin: APIClient) -> None:
    """Before: 404, as if there were no such list."""
    answer = admin.get(f"{RUNS}?format=xml")

    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")
    assert answer.json()["detail"] == "There is no format of this name; expected one of api, json."


def test_a_wrong_choice_in_a_body_lists_the_choices(admin: APIClient) -> None:
    wrong = {"name": "x", "dag_id": "etl", "visibility": "secret"}
    types = {"name": "x", "channel": "slack", "webhook_url": "https://example.com", "notification_types": ["nothing"]}

    choice = admin.post("/api/v1/workflows", wrong).json()["errors"]
    listed = admin.post("/api/v1/notifications/configs", types).json()["errors"]

    assert choice == {"visibility": ["Expected one of internal, private."]}
    assert listed["notification_types.0"][0].startswith("Expected one of dag_import_error, ")


@pytest.mark.django_db
def test_a_registration_learns_all_that_is_wrong_at_once() -> None:
    """Before: the form of the fields first, then what is taken, then the password."""
    User.objects.create_user("ada", "ada@example.com", "a long password")
    before = User.objects.count()

    wrong = {"username": "Ada", "email": "nothing", "password": "short", "colour": "red"}
    formal = Client().post(REGISTER, wrong, content_type="application/json").json()["errors"]
    right = {"username": "Ada", "email": "ada@example.com", "password": "12345678901234"}
    other = Client().post(REGISTER, right, content_type="application/json").json()["errors"]

    assert formal.keys() >= {"colour"}
    assert other.keys() == {"username", "email", "password"}
    del wrong["colour"]
    assert Client().post(REGISTER, wrong, content_type="application/json").json()["errors"].keys() == other.keys()
    assert User.objects.count() == before


@pytest.mark.django_db
def test_a_closed_registration_tells_nothing_of_who_is_there(settings: object) -> None:
    settings.REGISTRATION = "closed"  # type: ignore[attr-defined]
    User.objects.create_user("ada", "ada@example.com", "a long password")

    answer = Client().post(REGISTER, {"username": "ada"}, content_type="application/json")

    assert "username" not in answer.json()["errors"]
