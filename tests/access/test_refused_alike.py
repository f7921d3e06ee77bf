"""Refusals that come from outside our views have the same shape as all others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.test import Client
from pytest_django import Settings

from svops.asgi import application
from tests.access.callers import CALLERS
from tests.access.world import World, client_of


def shape(answer: Any) -> tuple[int, str]:
    """Return status and code of an error, after checking its shape."""
    body = answer.json()
    assert body.keys() == {"code", "detail", "request_id"}
    assert answer["Content-Type"] == "application/json"
    return answer.status_code, body["code"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/api/v1/events/stream"])
def test_an_unknown_method_of_a_plain_view_is_refused(db: None, path: str) -> None:
    answer = Client(enforce_csrf_checks=True).put(path)

    assert shape(answer) == (405, "method_not_allowed")
    assert "GET" in answer["Allow"]


def test_a_call_without_the_csrf_token_is_refused(db: None) -> None:
    browser = Client(enforce_csrf_checks=True)

    assert shape(browser.post("/logout")) == (403, "permission_denied")


def test_a_form_without_the_csrf_token_is_refused_with_a_page(db: None) -> None:
    answer = Client(enforce_csrf_checks=True).post("/login", headers={"Accept": "text/html,*/*;q=0.8"})

    assert answer.status_code == 403
    assert answer["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("path", ["/api/v1/auth/login", "/api/v1/workflows", "/api/v1/ingest", "/login", "/nowhere"])
def test_a_body_over_the_limit_is_refused_before_it_is_read(db: None, settings: Settings, path: str) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1024
    fits, too_large = ({"username": "x" * length} for length in (100, 1100))

    answer = Client().post(path, json.dumps(too_large), content_type="application/json")

    assert shape(answer) == (413, "too_large")
    assert answer.json()["detail"] == "The request body is too large; expected at most 1024 bytes."
    assert Client().post(path, json.dumps(fits), content_type="application/json").status_code != 413


async def in_chunks(path: str, *chunks: bytes) -> tuple[int, Any]:
    """POST a body without its length. Return status and JSON of the answer."""
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
    }
    scope |= {"headers": headers, "http_version": "1.1"}
    wire: Any = ApplicationCommunicator(application, scope)  # type: ignore[no-untyped-call]
    for number, chunk in enumerate(chunks, start=1):
        await wire.send_input({"type": "http.request", "body": chunk, "more_body": number < len(chunks)})
    start = await wire.receive_output(timeout=20)
    body = await wire.receive_output(timeout=20)
    await wire.wait(timeout=20)
    return start["status"], json.loads(body["body"])


@pytest.mark.django_db(transaction=True)
async def test_a_body_in_chunks_is_read() -> None:
    status, body = await in_chunks("/api/v1/auth/login", b'{"username": "ada", ', b'"passwort": 5}')

    assert (status, sorted(body["errors"])) == (400, ["passwort"])


@pytest.mark.django_db(transaction=True)
async def test_a_body_in_chunks_is_read_only_up_to_the_limit(settings: Settings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1024

    status, body = await in_chunks("/api/v1/auth/login", b" " * 1000, b" " * 1000, b"the rest is not awaited")

    assert (status, body["code"]) == (413, "too_large")
    assert body.keys() == {"code", "detail", "request_id"}
    assert body["request_id"]


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    "path", ["/api/v1/nowhere", "/api/v1/nowhere/", "/api/v2", "/api/v1/runs/../x", "/api/v1/dags/a%00"]
)
@pytest.mark.parametrize("method", ["get", "post"])
def test_an_unknown_path_of_the_api_is_not_found(
    db: None, settings: Settings, method: str, path: str, debug: bool
) -> None:
    settings.DEBUG = debug

    assert shape(getattr(Client(enforce_csrf_checks=True), method)(path)) == (404, "not_found")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/docs", "/login", "/api/v1", "/api/v1/schema"])
def test_a_slash_at_the_end_makes_no_difference(world: World, path: str) -> None:
    plain, with_slash = Client().get(path), Client().get(f"{path}/")

    assert with_slash.status_code == plain.status_code
    assert with_slash.headers["Content-Type"] == plain.headers["Content-Type"]


def test_the_admin_pages_keep_their_slashes(db: None) -> None:
    assert Client().get("/admin").headers["Location"] == "/admin/"
    assert Client().get("/admin/login/").status_code == 200


def test_the_icon_is_found_where_browsers_look_for_it(db: None) -> None:
    answer = Client().get("/favicon.ico")

    assert (answer.status_code, answer["Location"]) == (302, "/static/console/icon.svg")


def test_the_root_links_to_the_lists(world: World) -> None:
    links = client_of(CALLERS["admin"](world)).get("/api/v1/").json()

    assert links["workflows"] == "http://testserver/api/v1/workflows"
    refused = {name for name, link in links.items() if client_of(CALLERS["admin"](world)).get(link).status_code != 200}
    assert refused == {"login"}
