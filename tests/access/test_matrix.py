"""Every endpoint for every caller, as in the table. An endpoint without a row fails; a refusal changes nothing."""

from __future__ import annotations

import pytest
from django.db import transaction

from tests.access.callers import CALLERS, FORGERIES
from tests.access.table import PLAIN, STREAMS, TABLE, Row, endpoints
from tests.access.world import World, client_of, stored, writes
from workflows.routing import websocket_urlpatterns


def test_every_endpoint_has_a_row_and_every_row_an_endpoint() -> None:
    assert set(TABLE) == set(endpoints())


def test_these_are_all_the_streams() -> None:
    routes = dict.fromkeys(str(pattern.pattern).rstrip("/") for pattern in websocket_urlpatterns)

    # workflows/live/tests/test_opening.py and workflows/tests/test_credentials.py test who may open them.
    assert list(routes) == [
        "api/v1/ws",
        "api/v1/ws/user/<int:user_id>",
        "api/v1/ws/workflow/<int:workflow_id>",
        "api/v1/ws/user/<int:user_id>/workflow/<int:workflow_id>",
        "",
    ]


def _statuses(world: World, method: str, row: Row, tokens: dict[str, str]) -> dict[str, int]:
    """Ask with each token, each time in the same world. Checks that refusals change nothing."""
    body = {name: world.path(v) if isinstance(v, str) else v for name, v in (row.body or {}).items()}
    statuses, before = {}, stored()
    for who, token in tokens.items():
        point = transaction.savepoint()
        with writes() as written:
            response = getattr(client_of(token), method)(world.path(row.path), None if method == "get" else body)
        statuses[who] = response.status_code
        # A 503 while Airflow does not answer is no refusal, and records an event.
        if 400 <= response.status_code < 500 and written:
            assert stored() == before, f"{who} was refused and yet changed something"
        transaction.savepoint_rollback(point)
    assert stored() == before
    return statuses


@pytest.mark.parametrize(("name", "method"), PLAIN, ids=str)
def test_every_caller_gets_the_status_in_the_table(world: World, name: str, method: str) -> None:
    row = TABLE[name, method]
    tokens = {who: token_of(world) for who, token_of in CALLERS.items()}

    statuses = _statuses(world, method, row, tokens)

    assert statuses == dict(zip(CALLERS, row.expected(), strict=True))


@pytest.mark.parametrize(("name", "method"), PLAIN, ids=str)
def test_a_bad_token_is_refused_everywhere(world: World, name: str, method: str) -> None:
    row = TABLE[name, method]
    tokens = {what: token_of(world) for what, token_of in FORGERIES.items()}

    statuses = _statuses(world, method, row, tokens)

    assert statuses == dict.fromkeys(FORGERIES, row.expected()[0] if row.public else 401)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("name", "method"), STREAMS, ids=str)
def test_every_caller_gets_the_status_in_the_table_on_a_stream(world: World, name: str, method: str) -> None:
    row = TABLE[name, method]
    good = {who: token_of(world) for who, token_of in CALLERS.items()}
    bad = {what: token_of(world) for what, token_of in FORGERIES.items()}
    before = stored()

    statuses = {who: client_of(token).get(world.path(row.path)).status_code for who, token in (good | bad).items()}

    assert statuses == dict(zip(CALLERS, row.expected(), strict=True)) | dict.fromkeys(FORGERIES, 401)
    # A 503 while Airflow does not answer records an event.
    assert stored() == before or 503 in statuses.values()


@pytest.mark.parametrize("path", ["/", "/login", "/docs", "/admin/", "/api/v1/me", "/nowhere", "/healthz"])
def test_every_answer_allows_only_our_own_files(db: None, path: str) -> None:
    policy = client_of("").get(path)["Content-Security-Policy"]

    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
