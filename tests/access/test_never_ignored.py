"""An unknown or invalid parameter or field is answered with a 400. None is ignored."""

from __future__ import annotations

import uuid
from urllib.parse import quote

import pytest
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts import services
from tests.access.table import PLAIN, STREAMS, TABLE
from tests.access.world import World, client_of, stored

# drf-spectacular's own view of the OpenAPI document, and a plain view for signed records of the listener.
NOT_OURS = {("schema", "get"), ("ingest", "post"), ("ingest-of", "post")}


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


@pytest.mark.parametrize(("name", "method"), [key for key in PLAIN if key not in NOT_OURS], ids=str)
def test_a_parameter_that_comes_twice_is_refused_everywhere(
    world: World, admin: APIClient, name: str, method: str
) -> None:
    """Before: the last one counted, and a proxy or a log could take the first."""
    row, before = TABLE[name, method], stored()
    path = f"{world.path(row.path)}?format=json&format=json"

    answer = getattr(admin, method)(path, None if method == "get" else {})

    assert answer.status_code == 400
    assert answer.json()["errors"] == {"format": ["Given 2 times; expected once."]}
    assert stored() == before


INJECTED = [
    "' OR '1'='1",
    "'; DROP TABLE accounts_user; --",
    '" OR 1=1 --',
    "%' UNION SELECT password FROM accounts_user --",
    "1)) OR 1=1 --",
]
TEXTS = [
    "runs?search={}", "runs?task_id={}", "workflows?search={}", "workflows?name={}", "dags?search={}", "dags?tag={}",
    "users?search={}", "users?username={}", "audit?action={}", "audit?search={}", "notifications/configs?search={}",
    "runs?ordering={}", "users?ordering={}", "events?type={}", "workflows/{}", "dags/{}", "users/{}",
]  # fmt: skip


@pytest.mark.parametrize("place", TEXTS)
def test_sql_in_a_parameter_finds_nothing_and_changes_nothing(admin: APIClient, place: str) -> None:
    """Before: the same; all queries are made by Django's ORM."""
    before = stored()
    for text in INJECTED:
        answer = admin.get(f"/api/v1/{place.format(quote(text, safe=''))}")

        assert answer.status_code in {200, 400, 404}, (text, answer.content)
        if answer.status_code == 200:
            assert answer.json()["results"] == [], text
    assert stored() == before


@pytest.mark.parametrize("text", ['","role":"admin', '\\","x":"', "</script><script>x</script>", "a\u2028\u2029b"])
def test_a_text_stays_one_value_of_the_answer(admin: APIClient, text: str) -> None:
    answer = admin.patch("/api/v1/auth/me", {"name": text})

    assert answer.status_code == 200, answer.content
    assert (answer.json()["name"], answer.json()["role"]) == (text, "admin")
    assert "<script>" not in answer.content.decode() or answer["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("runs?state=failed&state=success", 200),
        ("events?type=workflow.failed&type=workflow.completed", 200),
        ("notifications/deliveries?status=failed&status=held&kind=event&kind=test", 200),
        ("runs?workflow=1&workflow=2", 400),
        ("users?role=user&role=admin", 400),
        ("events?after=1&after=2", 400),
    ],
)
def test_only_what_may_be_repeated_comes_twice(admin: APIClient, query: str, status: int) -> None:
    assert admin.get(f"/api/v1/{query}").status_code == status


BODIES = [key for key, row in TABLE.items() if key[1] in {"post", "patch"} and key not in NOT_OURS]


@pytest.mark.parametrize(("name", "method"), BODIES, ids=str)
def test_an_unknown_field_is_refused_everywhere(
    world: World, admin: APIClient, settings: Settings, name: str, method: str
) -> None:
    settings.OIDC_ISSUER = "https://identity.example"  # without one, the endpoint is 404
    world.give_to(world.users["admin"])
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
        ("users?ordering=password", "Expected one of date_joined, email, id, last_login, role, username;"),
        ("users?ordering=username,password", "Expected one of date_joined, email, id, last_login, role, username;"),
        ("users?page_size=abc", "Expected a whole number, 1 or more."),
        ("users?page_size=0", "Expected a whole number, 1 or more."),
        ("users?page=-1", "Expected a whole number, 1 or more."),
        ("runs?paused=zz", "Expected true or false."),
        ("runs?state=flying", "Expected one of failed, pending, queued, running, stopped, stopping, success."),
        ("runs?ordering=ended_at", "Expected created_at;"),
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
def test_an_invalid_value_is_refused_with_what_was_expected(admin: APIClient, query: str, expected: str) -> None:
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
def test_a_valid_query_is_followed(admin: APIClient, query: str, names: list[str]) -> None:
    assert [user["username"] for user in admin.get(f"/api/v1/users?{query}").json()["results"]] == names


def test_runs_of_the_same_moment_are_each_on_one_page(world: World, admin: APIClient) -> None:
    made = {str(world.run.pk)}
    for _ in range(4):
        world.run.pk = None
        world.run.id = uuid.uuid4()  # another run, created at the same time
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
def test_a_browser_gets_a_page(admin: APIClient, name: str) -> None:
    for query in ("", "?format=api"):
        answer = admin.get(f"/api/v1{name}{query}", headers={"Accept": "text/html"})

        assert answer.status_code == 200
        assert answer["Content-Type"] == "text/html; charset=utf-8"


def test_the_filters_of_a_page_offer_the_values_that_they_accept(admin: APIClient) -> None:
    page = admin.get("/api/v1/users", headers={"Accept": "text/html"}).content.decode()

    assert '<option value="true">true</option>' in page
    assert admin.get("/api/v1/users?role=&is_active=", headers={"Accept": "text/html"}).status_code == 200
