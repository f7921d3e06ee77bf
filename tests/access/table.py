"""The status that every endpoint gives to every caller. The tests walk through this table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.urls import get_resolver
from django.urls.resolvers import URLPattern, URLResolver

from tests.access.callers import CALLERS

METHODS = ("get", "post", "put", "patch", "delete")
WORKFLOW = "/api/v1/workflows/{workflow}"
RUN = f"{WORKFLOW}/runs/{{run}}"
CONFIG = "/api/v1/notifications/configs/{config}"
DELIVERY = "/api/v1/notifications/deliveries/{delivery}"


@dataclass(frozen=True)
class Row:
    """The status that each of `CALLERS` gets, in their order; a single status is for all of them."""

    path: str
    statuses: str
    body: Any = None
    # The answer is the same with any token, even a wrong one.
    public: bool = field(default=False, kw_only=True)

    def expected(self) -> list[int]:
        given = [int(status) for status in self.statuses.split()]
        return given * len(CALLERS) if len(given) == 1 else given


#   anonymous, viewer, stranger, may view, may run, may manage, owner, admin, key, bounded key, ticket
TABLE: dict[tuple[str, str], Row] = {
    ("register", "post"): Row("/api/v1/auth/register", "400", {}, public=True),
    ("login", "post"): Row("/api/v1/auth/login", "401", {"username": "x", "password": "y"}, public=True),
    ("oidc", "post"): Row("/api/v1/auth/oidc", "404", {"id_token": "x"}, public=True),
    ("refresh", "post"): Row("/api/v1/auth/refresh", "401", {"refresh_token": "x"}, public=True),
    ("logout", "post"): Row("/api/v1/auth/logout", "401 204 204 204 204 204 204 204 403 403 403", {}),
    ("me", "get"): Row("/api/v1/auth/me", "401 200 200 200 200 200 200 200 200 200 403"),
    ("me", "patch"): Row("/api/v1/auth/me", "401 200 200 200 200 200 200 200 403 403 403", {"name": "New"}),
    ("change-password", "post"): Row(
        "/api/v1/auth/change-password",
        "401 400 400 400 400 400 400 400 403 403 403",
        {"current_password": "x", "new_password": "y"},
    ),
    ("begin-factor", "post"): Row(
        "/api/v1/auth/second-factor", "401 400 400 400 400 400 400 400 403 403 403", {"current_password": "x"}
    ),
    ("confirm-factor", "post"): Row(
        "/api/v1/auth/second-factor/confirm", "401 400 400 400 400 400 400 400 403 403 403", {"code": "1"}
    ),
    ("recovery-codes", "post"): Row(
        "/api/v1/auth/second-factor/recovery-codes",
        "401 400 400 400 400 400 400 400 403 403 403",
        {"current_password": "x", "code": "1"},
    ),
    ("disable-factor", "post"): Row(
        "/api/v1/auth/second-factor/disable",
        "401 400 400 400 400 400 400 400 403 403 403",
        {"current_password": "x", "code": "1"},
    ),
    ("session-list", "get"): Row("/api/v1/auth/sessions", "401 200 200 200 200 200 200 200 403 403 403"),
    ("session-detail", "delete"): Row(
        "/api/v1/auth/sessions/0b5e7a52-7f0d-4a43-9a2e-0d6c6a1f9b11", "401 404 404 404 404 404 404 404 403 403 403"
    ),
    ("sign-out-everywhere", "post"): Row(
        "/api/v1/auth/sign-out-everywhere", "401 204 204 204 204 204 204 204 403 403 403"
    ),
    ("user-list", "get"): Row("/api/v1/users", "401 403 403 403 403 403 403 200 403 403 403"),
    ("user-list", "post"): Row(
        "/api/v1/users",
        "401 403 403 403 403 403 403 201 403 403 403",
        {"username": "new", "email": "new@example.com", "password": "battery staple 9"},
    ),
    ("user-detail", "get"): Row("/api/v1/users/{user}", "401 403 403 403 403 403 403 200 403 403 403"),
    ("user-detail", "patch"): Row(
        "/api/v1/users/{user}", "401 403 403 403 403 403 403 200 403 403 403", {"role": "admin"}
    ),
    ("api-key-list", "get"): Row("/api/v1/api-keys", "401 200 200 200 200 200 200 200 403 403 403"),
    ("api-key-list", "post"): Row(
        "/api/v1/api-keys", "401 201 201 201 201 201 201 201 403 403 403", {"name": "k", "scopes": ["workflow:read"]}
    ),
    ("api-key-detail", "get"): Row("/api/v1/api-keys/{api_key}", "401 404 404 404 404 404 200 404 403 403 403"),
    ("api-key-detail", "delete"): Row("/api/v1/api-keys/{api_key}", "401 404 404 404 404 404 204 404 403 403 403"),
    ("api-key-rotate", "post"): Row(
        "/api/v1/api-keys/{api_key}/rotate", "401 404 404 404 404 404 200 404 403 403 403", {}
    ),
    ("ticket-list", "get"): Row("/api/v1/tickets", "401 200 200 200 200 200 200 200 200 200 403"),
    ("ticket-list", "post"): Row(
        "/api/v1/tickets", "401 400 400 201 201 201 201 201 201 201 403", {"run_id": "{run}", "actions": ["view"]}
    ),
    ("ticket-detail", "delete"): Row("/api/v1/tickets/{ticket}", "401 404 404 404 404 404 204 404 404 404 403"),
    ("audit-list", "get"): Row("/api/v1/audit", "401 403 403 403 403 403 403 200 403 403 403"),
    ("audit-export", "get"): Row("/api/v1/audit/export", "401 403 403 403 403 403 403 200 403 403 403"),
    ("airflow-list", "get"): Row("/api/v1/airflows", "401 403 403 403 403 403 403 200 403 403 403"),
    ("airflow-list", "post"): Row(
        "/api/v1/airflows",
        "401 403 403 403 403 403 403 201 403 403 403",
        {"name": "prod", "url": "https://airflow.example.com", "options": {"username": "a", "password": "b"}},
    ),
    ("airflow-detail", "get"): Row("/api/v1/airflows/default", "401 403 403 403 403 403 403 200 403 403 403"),
    ("airflow-detail", "patch"): Row(
        "/api/v1/airflows/default", "401 403 403 403 403 403 403 200 403 403 403", {"drained": True}
    ),
    ("airflow-detail", "delete"): Row("/api/v1/airflows/default", "401 403 403 403 403 403 403 409 403 403 403"),
    ("dag-list", "get"): Row("/api/v1/dags", "401 200 200 200 200 200 200 200 200 403 403"),
    ("dag-detail", "get"): Row("/api/v1/dags/etl", "401 200 200 200 200 200 200 200 200 403 403"),
    ("dag-sync", "post"): Row("/api/v1/dags/sync", "401 403 403 403 403 403 403 503 403 403 403"),
    ("dag-rule-list", "get"): Row("/api/v1/dag-rules", "401 403 403 403 403 403 403 200 403 403 403"),
    ("dag-rule-list", "post"): Row(
        "/api/v1/dag-rules",
        "401 403 403 403 403 403 403 201 403 403 403",
        {"match": "prefix", "value": "e", "user": "stranger"},
    ),
    ("dag-rule-detail", "get"): Row("/api/v1/dag-rules/{dag_rule}", "401 403 403 403 403 403 403 200 403 403 403"),
    ("dag-rule-detail", "delete"): Row("/api/v1/dag-rules/{dag_rule}", "401 403 403 403 403 403 403 204 403 403 403"),
    ("workflow-list", "get"): Row("/api/v1/workflows", "401 200 200 200 200 200 200 200 200 200 403"),
    ("workflow-list", "post"): Row(
        "/api/v1/workflows",
        "401 403 201 201 201 201 201 201 403 403 403",
        {"name": "New", "dag_id": "etl", "default_parameters": {"rows": 1}},
    ),
    ("workflow-detail", "get"): Row(WORKFLOW, "401 404 404 200 200 200 200 200 200 200 403"),
    ("workflow-detail", "patch"): Row(WORKFLOW, "401 403 404 403 403 200 200 200 403 403 403", {"description": "New"}),
    ("workflow-detail", "delete"): Row(WORKFLOW, "401 403 404 403 403 409 409 409 403 403 403"),
    ("workflow-pause", "post"): Row(f"{WORKFLOW}/pause", "401 403 404 403 200 200 200 200 403 403 403", {}),
    ("workflow-resume", "post"): Row(f"{WORKFLOW}/resume", "401 403 404 403 200 200 200 200 403 403 403", {}),
    ("workflow-grants", "get"): Row(f"{WORKFLOW}/grants", "401 403 404 403 403 200 200 200 403 403 403"),
    ("workflow-grants", "post"): Row(
        f"{WORKFLOW}/grants", "401 403 404 403 403 201 201 201 403 403 403", {"user": "stranger", "level": "view"}
    ),
    ("workflow-revoke", "delete"): Row(f"{WORKFLOW}/grants/{{grant}}", "401 403 404 403 403 204 204 204 403 403 403"),
    ("run-list", "get"): Row("/api/v1/runs", "401 200 200 200 200 200 200 200 200 200 403"),
    ("workflow-run-list", "get"): Row(f"{WORKFLOW}/runs", "401 404 404 200 200 200 200 200 200 200 403"),
    ("workflow-run-list", "post"): Row(
        f"{WORKFLOW}/runs", "401 403 404 403 201 201 201 201 201 201 403", {"parameters": {"rows": 1}}
    ),
    ("workflow-run-batch", "post"): Row(
        f"{WORKFLOW}/runs/batch",
        "401 403 404 403 200 200 200 200 200 200 403",
        {"items": [{"parameters": {"rows": 1}}]},
    ),
    ("workflow-run-validate", "post"): Row(
        f"{WORKFLOW}/runs/validate", "401 403 404 200 200 200 200 200 200 200 403", {"parameters": {"rows": 1}}
    ),
    ("workflow-run-detail", "get"): Row(RUN, "401 404 404 200 200 200 200 200 200 200 200"),
    ("workflow-run-tasks", "get"): Row(f"{RUN}/tasks", "401 404 404 200 200 200 200 200 200 200 200"),
    ("workflow-run-events", "get"): Row(f"{RUN}/events", "401 404 404 200 200 200 200 200 200 200 200"),
    ("workflow-run-result", "get"): Row(f"{RUN}/result", "401 404 404 200 200 200 200 200 200 200 200"),
    ("workflow-run-wait", "get"): Row(f"{RUN}/wait", "401 404 404 202 202 202 202 202 202 202 202"),
    ("workflow-run-explain", "get"): Row(f"{RUN}/explain", "401 404 404 200 200 200 200 200 200 200 200"),
    ("workflow-run-control", "post"): Row(
        f"{RUN}/control", "401 403 404 403 200 200 200 200 403 403 403", {"action": "stop"}
    ),
    ("task-log", "get"): Row(f"{RUN}/tasks/extract/logs", "401 404 404 503 503 503 503 503 503 503 403"),
    ("task-log-stream", "get"): Row(f"{RUN}/tasks/extract/logs/stream", "401 404 404 503 503 503 503 503 503 503 403"),
    ("events", "get"): Row("/api/v1/events", "401 200 200 200 200 200 200 200 200 200 403"),
    ("event-stream", "get"): Row("/api/v1/events/stream", "401 200 200 200 200 200 200 200 200 200 200"),
    ("ingest", "post"): Row("/api/v1/ingest", "401", {"records": []}, public=True),
    ("ingest-of", "post"): Row("/api/v1/ingest/default", "401", {"records": []}, public=True),
    ("notification-types", "get"): Row("/api/v1/notifications/types", "401 200 200 200 200 200 200 200 200 403 403"),
    ("notification-config-list", "get"): Row(
        "/api/v1/notifications/configs", "401 200 200 200 200 200 200 200 200 403 403"
    ),
    ("notification-config-list", "post"): Row(
        "/api/v1/notifications/configs", "401 403 400 400 400 400 400 400 403 403 403", {}
    ),
    ("notification-config-detail", "get"): Row(CONFIG, "401 404 404 404 404 404 200 404 200 403 403"),
    ("notification-config-detail", "patch"): Row(
        CONFIG, "401 403 404 404 404 404 200 404 403 403 403", {"name": "New"}
    ),
    ("notification-config-detail", "delete"): Row(CONFIG, "401 403 404 404 404 404 204 404 403 403 403"),
    ("notification-config-disable", "post"): Row(
        f"{CONFIG}/disable", "401 403 404 404 404 404 200 404 403 403 403", {}
    ),
    ("notification-config-enable", "post"): Row(f"{CONFIG}/enable", "401 403 404 404 404 404 200 404 403 403 403"),
    ("notification-config-ask-recipients", "post"): Row(
        f"{CONFIG}/ask-recipients", "401 403 404 404 404 404 200 404 403 403 403"
    ),
    ("notification-config-rotate-secret", "post"): Row(
        f"{CONFIG}/rotate-secret", "401 403 404 404 404 404 200 404 403 403 403"
    ),
    ("notification-config-test", "post"): Row(f"{CONFIG}/test", "401 403 404 404 404 404 409 404 403 403 403"),
    ("notification-delivery-list", "get"): Row(
        "/api/v1/notifications/deliveries", "401 200 200 200 200 200 200 200 200 403 403"
    ),
    ("notification-delivery-redeliver-range", "post"): Row(
        "/api/v1/notifications/deliveries/redeliver", "401 403 400 400 400 400 400 400 403 403 403", {}
    ),
    ("notification-delivery-detail", "get"): Row(DELIVERY, "401 404 404 404 404 404 200 404 200 403 403"),
    ("notification-delivery-redeliver", "post"): Row(
        f"{DELIVERY}/redeliver", "401 403 404 404 404 404 409 404 403 403 403"
    ),
    ("root", "get"): Row("/api/v1", "200"),
    ("schema", "get"): Row("/api/v1/schema?format=json", "200"),
    ("event-schema", "get"): Row("/api/v1/events/schema", "200", public=True),
    ("asyncapi", "get"): Row("/api/v1/asyncapi", "200", public=True),
}

# Endpoints that the description does not contain, and why. They cannot be fuzzed from it.
NOT_DESCRIBED = {
    ("ingest", "post"): "only for Airflow's listener, which signs each request",
    ("ingest-of", "post"): "only for Airflow's listener, which signs each request",
    ("schema", "get"): "the description itself",
    ("event-schema", "get"): "a description itself",
    ("asyncapi", "get"): "a description itself",
}

# What the description has and no test can read to its end.
ENDLESS = {("event-stream", "get"), ("task-log-stream", "get")}

# Views that run on an event loop close connections, so tests ask them outside of a transaction.
STREAMS = [key for key in TABLE if key[0].endswith("-stream")]
PLAIN = [key for key in TABLE if key not in STREAMS]


def endpoints() -> Iterator[tuple[str, str]]:
    """Yield every (name, method) of the API, from the URL configuration."""
    for path, pattern in _patterns(get_resolver().url_patterns):
        if f"{path}/".startswith("api/v1/"):
            for method in _methods(pattern):
                yield str(pattern.name), method


def _patterns(patterns: list[Any], prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for pattern in patterns:
        path = f"{prefix}{pattern.pattern}"
        if isinstance(pattern, URLResolver):
            yield from _patterns(pattern.url_patterns, path)
        else:
            yield path, pattern


def _methods(pattern: URLPattern) -> Iterator[str]:
    view: Any = pattern.callback
    if actions := getattr(view, "actions", None):
        yield from (method for method in actions if method in METHODS)  # a first request adds HEAD
    elif hasattr(view, "cls"):
        yield from (method for method in METHODS if hasattr(view.cls, method))
    else:
        yield "post" if pattern.name in {"ingest", "ingest-of"} else "get"
