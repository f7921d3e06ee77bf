"""Query strings and bodies: what is not known or makes no sense is said in a 400 and never ignored."""

from __future__ import annotations

import uuid

import pytest
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts import services
from tests.access.conftest import World, client_of, stored
from tests.access.test_fuzz import give_all_to
from tests.access.test_matrix import PLAIN, STREAMS, TABLE

# drf-spectacular's own view of the OpenAPI document; a plain view that takes what the listener has signed.
NOT_OURS = {("schema", "get"), ("ingest", "post")}


@pytest.fixture
def admin(world: World) -> APIClient:
    return client_of(services.sign_in(user=world.users["admin"]).access_token)


@pytest.mark.parametrize(("name", "method"), [key for key in PLAIN if key not in NOT_OURS], ids=str)
def test_an_unknown_parameter_is_refused_everywhere(world: World, admin: APIClient, name: str, method: str) -> None:
    row, before = TABLE[name, method], stored()
    path = f"{world.path(row.path)}?colour=red"

    answer = getattr(admin, method)(path, None if method == "get" else {})

    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == ["colour"]
    assert stored() == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("name", "method"), STREAMS, ids=str)
def test_an_unknown_parameter_is_refused_on_streams(world: World, admin: APIClient, name: str, method: str) -> None:
    answer = admin.get(f"{world.path(TABLE[name, method].path)}?colour=red")

    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == ["colour"]


BODIES = [key for key, row in TABLE.items() if key[1] in {"post", "patch"} and key not in NOT_OURS]


@pytest.mark.parametrize(("name", "method"), BODIES, ids=str)
def test_an_unknown_field_is_refused_everywhere(
    world: World, admin: APIClient, settings: Settings, name: str, method: str
) -> None:
    settings.OIDC_ISSUER = "https://identity.example"  # without one, there is no such endpoint
    give_all_to(world.users["admin"], world)
    row, before = TABLE[name, method], stored()

    answer = getattr(admin, method)(world.path(row.path), {**(row.body or {}), "colour": "red"})

    assert answer.status_code == 400
    assert "colour" in answer.json()["errors"]
    assert stored() == before


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("users?is_active=foo", "Expected true or false."),
        ("users?role=queen", "Expected one of admin, user, viewer."),
        ("users?ordering=password", "Expected one of date_joined, email, id, last_login, role, username,"),
        ("users?ordering=username,password", "Expected one of date_joined, email, id, last_login, role, username,"),
        ("users?page_size=abc", "Expected a whole number, 1 or more."),
        ("users?page_size=0", "Expected a whole number, 1 or more."),
        ("users?page=-1", "Expected a whole number, 1 or more."),
        ("runs?paused=zz", "Expected true or false."),
        ("runs?state=flying", "Expected one of failed, pending, queued, running, stopped, stopping, success."),
        ("runs?ordering=ended_at", "Expected created_at,"),
        ("runs?page_size=abc", "Expected a whole number, 1 or more."),
        ("runs?created_after=yesterday", "Expected a time, as 2026-03-01T12:00:00Z."),
        ("runs?created_after=0001-01-01T00:00:00%2B10:00", "Expected a time, as 2026-03-01T12:00:00Z."),
        ("runs?user=99999999999999999999", "Ensure this value is less than or equal to 9223372036854775807."),
        ("workflows?is_active=zz", "Expected true or false."),
        ("dags?is_paused=2", "Expected true or false."),
        ("events?after=-1", "Expected a whole number, 0 or more."),
        ("events?limit=1001", "Expected a whole number, 1 to 1000."),
        ("notifications/configs?channel=pigeon", "Expected one of apprise, email, slack, webhook."),
        ("notifications/deliveries?status=lost", "Expected one of delivered, failed, folded, held, pending,"),
        ("audit?since=2026-02-31", "Expected a time, as 2026-03-01T12:00:00Z."),
        ("audit/export?as=xml", "Expected csv or jsonl."),
    ],
)  # fmt: skip
def test_a_value_that_makes_no_sense_is_refused_with_what_was_expected(
    admin: APIClient, query: str, expected: str
) -> None:
    answer = admin.get(f"/api/v1/{query}")

    assert answer.status_code == 400
    parameter = query.partition("?")[2].partition("=")[0]
    (name, (message,)) = next(iter(answer.json()["errors"].items()))
    assert name == parameter
    assert message.startswith(expected)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("is_active=false", []),
        ("is_active=TRUE&role=viewer", ["viewer"]),
        ("is_active=&role=viewer", ["viewer"]),
        ("role=user&ordering=-username&page_size=2", ["stranger", "owner"]),
        ("role=user&ordering=role,username&page_size=2", ["may-manage", "may-run"]),
        ("role=viewer&page_size=100000&page=1", ["viewer"]),
        ("role=viewer&page=last", ["viewer"]),
    ],
)
def test_what_makes_sense_is_followed(admin: APIClient, query: str, names: list[str]) -> None:
    assert [user["username"] for user in admin.get(f"/api/v1/users?{query}").json()["results"]] == names


def test_runs_of_one_moment_are_each_on_one_page(world: World, admin: APIClient) -> None:
    made = {str(world.run.pk)}
    for _ in range(4):
        world.run.pk = None
        world.run.id = uuid.uuid4()  # another one, made at the same time
        world.run.dag_run_id = f"svops__{world.run.id}"
        world.run.save(force_insert=True)
        made.add(str(world.run.pk))

    for ordering in ("created_at", "-created_at"):
        found, path = [], f"/api/v1/runs?page_size=2&ordering={ordering}"
        while path:
            page = admin.get(path).json()
            found += [run["id"] for run in page["results"]]
            path = page["next"]
        assert sorted(found) == sorted(made)


@pytest.mark.parametrize("name", ["", "/users", "/runs", "/workflows", "/dags", "/audit", "/notifications/deliveries"])
def test_a_browser_is_shown_a_page(admin: APIClient, name: str) -> None:
    for query in ("", "?format=api"):
        answer = admin.get(f"/api/v1{name}{query}", headers={"Accept": "text/html"})

        assert answer.status_code == 200
        assert answer["Content-Type"] == "text/html; charset=utf-8"


def test_the_filters_of_a_page_offer_what_they_take(admin: APIClient) -> None:
    page = admin.get("/api/v1/users", headers={"Accept": "text/html"}).content.decode()

    assert '<option value="true">true</option>' in page
    assert admin.get("/api/v1/users?role=&is_active=", headers={"Accept": "text/html"}).status_code == 200
