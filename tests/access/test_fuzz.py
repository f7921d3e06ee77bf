"""The whole API, asked what its OpenAPI description allows, and what it does not.

Whatever comes, an operation answers with a status, a type and a shape that it has described, and never fails. The same
cases come each time; `make fuzz` looks for others, and for more of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pytest_django import Settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accounts import services
from accounts.models import User
from tests.access.conftest import World, client_of
from tests.access.test_matrix import TABLE
from workflows import upstream
from workflows.states import RunState
from workflows.tests.stage import NOW, StagedAirflow

DESCRIBED = [status_code_conformance, content_type_conformance, response_schema_conformance]
PYTHON = re.compile(r"\bNone\b|<class |object at 0x|Traceback")
# `make fuzz` sets it: so many cases for each operation, and others each time.
LONG_RUN = int(os.environ.get("SVOPS_FUZZ_EXAMPLES", "0"))

# What can not be fuzzed from the description, because it is not in it, and why.
NOT_DESCRIBED = {
    ("event-stream", "get"): "never ends: server-sent events, of which OpenAPI 3.0 has no description",
    ("task-log-stream", "get"): "never ends: server-sent events, of which OpenAPI 3.0 has no description",
    ("ingest", "post"): "for Airflow's listener alone, which signs each request",
    ("schema", "get"): "the description itself",
}
# Nothing but this may fail, and only while Airflow is down.
NEEDS_AIRFLOW = {("dag-sync", "post"), ("task-log", "get"), ("workflow-run-control", "post")}


@dataclass(frozen=True)
class Described:
    """An operation, and the path parameters that name what there is in the world."""

    operation: Any
    known: Mapping[str, str]


@pytest.fixture(scope="module")
def description() -> Any:
    schema = schemathesis.openapi.from_dict(SchemaGenerator().get_schema(request=None, public=True))  # type: ignore[no-untyped-call]
    schema.app = get_wsgi_application()
    return schema


def _described(description: Any, method: str, path: str) -> Described | None:
    """The operation behind a path, if it is described: of those that fit, the one with the fewest parameters."""
    fitting = []
    for found in description.get_all_operations():
        operation = found.ok()
        template = re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", operation.path)
        if operation.method == method and (fit := re.fullmatch(template, path)):
            fitting.append(Described(operation, fit.groupdict()))
    return min(fitting, key=lambda one: len(one.known), default=None)


def test_every_operation_is_fuzzed_and_what_is_not_has_a_reason(description: Any, world: World) -> None:
    fuzzed, left = set(), set()
    for (name, method), row in TABLE.items():
        if found := _described(description, method, world.path(row.path)):
            fuzzed.add(found.operation.label)
        else:
            left.add((name, method))

    assert left == NOT_DESCRIBED.keys()
    assert fuzzed == {found.ok().label for found in description.get_all_operations()}


@pytest.fixture
def _one_connection() -> Iterator[None]:
    """What Django's own test client sees to: a request does not close the connection of the test's transaction."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.fixture
def with_airflow(world: World, settings: Settings) -> Iterator[None]:
    """A run that has started, with a task and its log."""
    with StagedAirflow() as airflow:
        settings.AIRFLOW_URL = airflow.url
        settings.AIRFLOW_USERNAME = settings.AIRFLOW_PASSWORD = "admin"
        world.run.state, world.run.queued_at, world.run.started_at = RunState.RUNNING, NOW, NOW
        world.run.save(update_fields=["state", "queued_at", "started_at"])
        airflow.put(world.run, "running", start=1)
        airflow.put_task(world.run, "extract", "running", start=1)
        airflow.put_log(world.run, "extract", "one line", "another")
        _forget_airflow()
        yield
        _forget_airflow()


@pytest.fixture
def without_airflow(world: World) -> Iterator[None]:
    """Nobody listens where the world's Airflow should be."""
    _forget_airflow()
    yield
    _forget_airflow()


def _forget_airflow() -> None:
    upstream.breaker().close()
    if upstream.airflow.cache_info().currsize:
        upstream.airflow().close()
    upstream.airflow.cache_clear()


KEYS = [key for key in TABLE if key not in NOT_DESCRIBED]


# What the types of a description allow, or nearly, and databases, clocks and parsers have trouble with.
NASTY = [
    "\x00", "a\x00b", "%", "'", "\u202e", "é" * 300, "9" * 5000, "", " ", "true", "null", "-1", "0",
    "9999-12-31T23:59:59.999999-14:00", "0001-01-01T00:00:00+14:00", "2026-02-29T12:00:00Z", "24:00", "٣", "1e400",
    2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, -1, 0, 0.5, 1e308, True, None, [], {}, [[[]]], {"": {"\x00": []}},
]  # fmt: skip


# What of `World` can stand in a body.
def _there(world: World) -> dict[str, Any]:
    return {
        "run_id": str(world.run.pk),
        "workflow_ids": [world.workflow.pk],
        "config_id": world.config.pk,
        "dag_id": "etl",
        "user": "stranger",
        "parameters": {"rows": 3},
    }


def one_in(count: int) -> st.SearchStrategy[bool]:
    return st.integers(1, count).map(lambda number: number == count)


TROUBLE = st.tuples(st.integers(0, 50), st.sampled_from(NASTY))


def _spoil(case: Any, fields: list[str], place: int, nasty: Any) -> None:
    """Put it in the place of some parameter of the path or the query, or of some field of the body."""
    # (An empty one would ask another operation.)
    of_path = [(case.path_parameters, name) for name in case.path_parameters if isinstance(nasty, str) and nasty]
    of_query = [(case.query, parameter.name) for parameter in case.operation.query]
    of_body = [(case.body, name) for name in fields if isinstance(case.body, dict)]
    if places := of_path + of_query + of_body:
        part, name = places[place % len(places)]
        part[name] = nasty


def _fields(description: Any, operation: Any) -> list[str]:
    """Names of what a body of the operation may hold."""
    described = description.raw_schema["paths"][operation.path][operation.method].get("requestBody")
    if described is None:
        return []
    schema = description.raw_schema["components"]["schemas"][
        described["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    ]
    return list(schema["properties"])


def give_all_to(admin: User, world: World) -> None:
    """Let him own what nobody but its owner sees."""
    world.config.owner, world.api_key.user, world.ticket.user = admin, admin, admin
    for owned in (world.config, world.api_key, world.ticket):
        owned.save()


@pytest.fixture
def fuzz(description: Any, world: World, settings: Settings, _one_connection: None) -> Callable[..., None]:
    """Asks the operation of a row, as an admin, for what is there and for what is not, and holds it to `checks`."""
    # A host that a case makes up is looked for in vain; for so long at most.
    settings.NOTIFICATION_TIMEOUT = 0.2
    admin = world.users["admin"]
    give_all_to(admin, world)
    token = services.sign_in(user=admin).access_token
    headers = {"Authorization": f"Bearer {token}"}

    def ask(key: tuple[str, str], count: int, checks: list[Any]) -> None:
        described = _described(description, key[1], world.path(TABLE[key].path))
        assert described is not None
        there, fields = _there(world), _fields(description, described.operation)

        @examples(
            max_examples=LONG_RUN or count,
            derandomize=not LONG_RUN,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(case=_cases(described.operation), is_gone=one_in(5), trouble=st.none() | TROUBLE)
        def answers_as_described(case: Any, is_gone: bool, trouble: tuple[int, Any] | None) -> None:
            if not is_gone:
                case.path_parameters = dict(described.known)
                if isinstance(case.body, dict):
                    case.body = case.body | {name: value for name, value in there.items() if name in case.body}
            if trouble:
                _spoil(case, fields, *trouble)
            # Each case finds the world as it was.
            with transaction.atomic():
                case.call_and_validate(headers=headers, checks=checks)
                transaction.set_rollback(True)

        answers_as_described()

    return ask


def _cases(operation: Any) -> st.SearchStrategy[Any]:
    """What the description allows and, where there is anything to get wrong, what it does not."""
    allowed: st.SearchStrategy[Any] = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    if not (operation.body or operation.query or operation.path_parameters):
        return allowed
    not_allowed: st.SearchStrategy[Any] = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    return allowed | not_allowed


@pytest.mark.usefixtures("with_airflow")
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_no_request_fails_or_is_answered_with_what_is_not_described(
    key: tuple[str, str], fuzz: Callable[..., None]
) -> None:
    fuzz(key, 15, [not_a_server_error, _speaks_no_python, *DESCRIBED])


@pytest.mark.usefixtures("without_airflow")
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_no_request_fails_while_airflow_is_down_but_those_that_ask_it(
    key: tuple[str, str], fuzz: Callable[..., None]
) -> None:
    fuzz(key, 4, [_is_airflows_fault if key in NEEDS_AIRFLOW else not_a_server_error, *DESCRIBED])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("event-stream", ["after", "workflow", "run", "user", "type", "ticket"]),
        ("task-log-stream", ["try_number", "map_index", "cursor", "tail", "limit", "ticket"]),
    ],
)
def test_no_query_makes_a_stream_fail(world: World, name: str, parameters: list[str]) -> None:
    client = client_of(services.sign_in(user=world.users["admin"]).access_token)
    path = world.path(TABLE[name, "get"].path)

    statuses = {client.get(path, {one: str(nasty)}).status_code for one in parameters for nasty in NASTY}

    # (A log is Airflow's to tell, which is down.)
    assert statuses <= {200, 400, 401, 404, 410} | ({503} if name == "task-log-stream" else set())


def _speaks_no_python(ctx: Any, response: Any, case: Any) -> None:
    """A refusal is for people who have never heard of `None` or of a traceback."""
    if response.status_code >= HTTPStatus.BAD_REQUEST:
        assert not PYTHON.search(response.text), response.text


def _is_airflows_fault(ctx: Any, response: Any, case: Any) -> None:
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        assert (response.status_code, response.json()["code"]) == (503, "upstream_unavailable"), response.text
