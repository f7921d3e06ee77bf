"""CORS through the whole ASGI application: answers, errors before Django, preflights."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from accounts.early_refusals import EarlyRefusals
from rest import env
from svops.asgi import application
from svops.cross_origin import CrossOrigin

PAGE = "https://app.example.com"
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,prefer"}

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.asyncio]


@pytest.fixture(autouse=True)
def _allowed(settings: Settings) -> None:
    settings.CORS_ALLOWED_ORIGINS = [PAGE]


async def ask(method: str, path: str, *, to: Any = application, **headers: Any) -> tuple[int, dict[str, str]]:
    """Send a request with these headers and a `body`. Return the status and the headers of the answer."""
    body: bytes = headers.pop("body", b"")
    sent = {"host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        "client": ("127.0.0.1", 1),
        "scheme": "http",
    }
    wire = ApplicationCommunicator(to, scope)  # type: ignore[no-untyped-call]
    await wire.send_input({"type": "http.request", "body": body, "more_body": False})  # type: ignore[no-untyped-call]
    start = await wire.receive_output(20)  # type: ignore[no-untyped-call]
    await wire.receive_output(20)  # type: ignore[no-untyped-call]
    return start["status"], {name.decode().lower(): value.decode() for name, value in start["headers"]}


async def test_an_answer_says_that_a_listed_page_may_read_it() -> None:
    status, headers = await ask("GET", "/api/v1/workflows", origin=PAGE)

    assert (status, headers["access-control-allow-origin"]) == (401, PAGE)
    assert "access-control-allow-credentials" not in headers
    exposed = headers["access-control-expose-headers"].split(", ")
    assert {"Location", "Retry-After", "X-Request-ID", "Idempotent-Replayed", "ETag", "Preference-Applied"} <= {
        *exposed
    }
    assert "origin" in headers["vary"].lower()


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example.com", "http://app.example.com", "https://app.example.com:8443", "null", "x", "http://["],
)
async def test_another_page_may_not(origin: str) -> None:
    _, headers = await ask("GET", "/api/v1/workflows", origin=origin)
    _, of_preflight = await ask("OPTIONS", "/api/v1/workflows", origin=origin, **PREFLIGHT)

    assert "access-control-allow-origin" not in {**headers, **of_preflight}
    assert "origin" in headers["vary"].lower()


async def test_nothing_is_said_by_default(settings: Settings) -> None:
    settings.CORS_ALLOWED_ORIGINS = []

    _, headers = await ask("GET", "/api/v1/workflows", origin=PAGE)

    assert not {"access-control-allow-origin", "access-control-allow-headers"} & headers.keys()


@pytest.mark.parametrize("path", ["/", "/admin/login/", "/metrics"])
async def test_only_the_api_is_for_other_pages(path: str) -> None:
    _, headers = await ask("GET", path, origin=PAGE)

    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("path", ["/api/v1/workflows", "/api/v1/events/stream", "/api/v1/nothing-here"])
async def test_a_preflight_of_a_listed_page_is_answered_without_credentials(path: str) -> None:
    status, headers = await ask("OPTIONS", path, origin=PAGE, **PREFLIGHT)

    assert (status, headers["access-control-allow-origin"]) == (200, PAGE)
    assert {"authorization", "idempotency-key", "prefer"} <= {*headers["access-control-allow-headers"].split(", ")}
    assert headers["access-control-allow-methods"] == "GET, POST, PATCH, DELETE, OPTIONS"
    assert (headers["access-control-max-age"], headers["content-length"]) == ("600", "0")


async def test_a_body_that_is_too_large_is_refused_readably(settings: Settings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    body = b'{"username": "' + b"x" * 200 + b'"}'

    status, headers = await ask("POST", "/api/v1/auth/login", body=body, origin=PAGE, content_type="application/json")

    assert (status, headers["access-control-allow-origin"]) == (413, PAGE)


async def test_a_body_in_another_encoding_is_refused_readably() -> None:
    wrong = "application/json; charset=latin-1"

    status, headers = await ask("POST", "/api/v1/auth/login", body=b"{}", origin=PAGE, content_type=wrong)

    assert (status, headers["access-control-allow-origin"]) == (415, PAGE)


async def test_a_repeat_that_is_refused_before_django_is_readable() -> None:
    async def busy(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"retry-after", b"5"), (b"content-type", b"application/json"), (b"vary", b"Accept")]
        await send({"type": "http.response.start", "status": 429, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"code": "throttled", "detail": "Too many."}'})

    guarded = CrossOrigin(EarlyRefusals(busy))
    first = await ask("GET", "/api/v1/runs", to=guarded, origin=PAGE, authorization="Bearer x")
    again = await ask("GET", "/api/v1/runs", to=guarded, origin=PAGE, authorization="Bearer x")

    for status, headers in (first, again):
        assert (status, headers["access-control-allow-origin"]) == (429, PAGE)
        assert "Retry-After" in headers["access-control-expose-headers"]
    assert first[1]["vary"].lower() == "accept, origin"
    # A preflight is no request of the caller.
    assert (await ask("OPTIONS", "/api/v1/runs", to=guarded, origin=PAGE, **PREFLIGHT))[0] == 200


@pytest.mark.parametrize(
    "wrong", ["*", "app.example.com", "https://app.example.com/", "https://*.example.com", "ftp://a"]
)
async def test_a_list_with_something_else_stops_the_start(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("CORS_ALLOWED_ORIGINS", f"{PAGE}, {wrong}")

    with pytest.raises(ImproperlyConfigured, match="CORS_ALLOWED_ORIGINS"):
        env.origins("CORS_ALLOWED_ORIGINS")
