"""Requests that the OpenAPI description allows, and requests that it does not, to the whole API.

Every answer must have a described status, type and shape, and no request may make the server fail. The tests send the
same cases each time; `make fuzz` looks for more and for others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import pytest
import schemathesis
from django.core.wsgi import get_wsgi_application
from django.db import transaction
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
from tests.access.table import ENDLESS, NOT_DESCRIBED, TABLE
from tests.access.world import World, client_of

DESCRIBED = [status_code_conformance, content_type_conformance, response_schema_conformance]
PYTHON = re.compile(r"\bNone\b|<class |object at 0x|Traceback")
# `make fuzz` sets this number of cases for each operation, and gets new ones each time.
LONG_RUN = int(os.environ.get("SVOPS_FUZZ_EXAMPLES", "0"))

# Only these operations may fail, and only while Airflow is down.
NEEDS_AIRFLOW = {("dag-sync", "post"), ("task-log", "get"), ("workflow-run-control", "post")}


@dataclass(frozen=True)
class Described:
    """An operation, and the path parameters of objects that exist in the world."""

    operation: Any
    known: Mapping[str, str]


@pytest.fixture(scope="module")
def description() -> Any:
    schema = schemathesis.openapi.from_dict(SchemaGenerator().get_schema(request=None, public=True))  # type: ignore[no-untyped-call]
    schema.app = get_wsgi_application()
    return schema


def _described(description: Any, method: str, path: str) -> Described | None:
    """Return the described operation of a path: of those that match, the one with the fewest parameters."""
    fitting = []
    for found in description.get_all_operations():
        operation = found.ok()
        template = re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", operation.path)
        if operation.method == method and (fit := re.fullmatch(template, path)):
            fitting.append(Described(operation, fit.groupdict()))
    return min(fitting, key=lambda one: len(one.known), default=None)


def test_every_operation_is_fuzzed_or_has_a_reason_not_to_be(description: Any, world: World) -> None:
    fuzzed, skipped = set(), set()
    for (name, method), row in TABLE.items():
        if found := _described(description, method, world.path(row.path)):
            fuzzed.add(found.operation.label)
        else:
            skipped.add((name, method))

    assert skipped == NOT_DESCRIBED.keys()
    assert fuzzed == {found.ok().label for found in description.get_all_operations()}


KEYS = [key for key in TABLE if key not in NOT_DESCRIBED and key not in ENDLESS]


# Values that a description allows, or nearly, and that are hard for databases, clocks and parsers.
NASTY = [
    "\x00", "a\x00b", "%", "'", "\u202e", "é" * 300, "9" * 5000, "", " ", "true", "null", "-1", "0",
    "9999-12-31T23:59:59.999999-14:00", "0001-01-01T00:00:00+14:00", "2026-02-29T12:00:00Z", "24:00", "٣", "1e400",
    2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, -1, 0, 0.5, 1e308, True, None, [], {}, [[[]]], {"": {"\x00": []}},
]  # fmt: skip


def _existing(world: World) -> dict[str, Any]:
    """Return values of body fields that name something in the world."""
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
    """Replace one parameter of the path or the query, or one field of the body."""
    # An empty path parameter would address another operation.
    of_path = [(case.path_parameters, name) for name in case.path_parameters if isinstance(nasty, str) and nasty]
    of_query = [(case.query, parameter.name) for parameter in case.operation.query]
    of_body = [(case.body, name) for name in fields if isinstance(case.body, dict)]
    if places := of_path + of_query + of_body:
        part, name = places[place % len(places)]
        part[name] = nasty


def _fields(description: Any, operation: Any) -> list[str]:
    """Return the names of the fields that a body of the operation may have."""
    described = description.raw_schema["paths"][operation.path][operation.method].get("requestBody")
    if described is None:
        return []
    schema = description.raw_schema["components"]["schemas"][
        described["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    ]
    return list(schema["properties"])


@dataclass(frozen=True)
class Fuzzer:
    """Asks operations as an admin, for what exists and for what does not."""

    description: Any
    world: World
    token: str

    def ask(self, key: tuple[str, str], *, count: int, checks: list[Any]) -> None:
        """Ask the operation of a row with `count` cases. Each answer has to pass `checks`."""
        described = _described(self.description, key[1], self.world.path(TABLE[key].path))
        assert described is not None
        existing, fields = _existing(self.world), _fields(self.description, described.operation)

        @examples(
            max_examples=LONG_RUN or count,
            derandomize=not LONG_RUN,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(case=_cases(described.operation), is_missing=one_in(5), trouble=st.none() | TROUBLE)
        def answers_as_described(case: Any, is_missing: bool, trouble: tuple[int, Any] | None) -> None:
            if not is_missing:
                case.path_parameters = dict(described.known)
                if isinstance(case.body, dict):
                    case.body = case.body | {name: value for name, value in existing.items() if name in case.body}
            if trouble:
                _spoil(case, fields, *trouble)
            self._send(case, checks)

        answers_as_described()

    def _send(self, case: Any, checks: list[Any]) -> None:
        # Each case finds the same world.
        with transaction.atomic():
            case.call_and_validate(headers={"Authorization": f"Bearer {self.token}"}, checks=checks)
            transaction.set_rollback(True)


@pytest.fixture
def fuzzer(description: Any, world: World, settings: Settings, one_connection: None) -> Fuzzer:
    # Cases make up hosts. No host answers; looking for one ends after this many seconds.
    settings.NOTIFICATION_TIMEOUT = 0.2
    admin = world.users["admin"]
    world.give_to(admin)
    return Fuzzer(description, world, services.sign_in(user=admin).access_token)


def _cases(operation: Any) -> st.SearchStrategy[Any]:
    """Return cases that the description allows and, if the operation takes any input, cases that it does not."""
    allowed: st.SearchStrategy[Any] = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    if not (operation.body or operation.query or operation.path_parameters):
        return allowed
    not_allowed: st.SearchStrategy[Any] = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    return allowed | not_allowed


@pytest.mark.usefixtures("with_airflow")
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_every_request_gets_a_described_answer(key: tuple[str, str], fuzzer: Fuzzer) -> None:
    fuzzer.ask(key, count=15, checks=[not_a_server_error, _shows_no_python, *DESCRIBED])


@pytest.mark.usefixtures("without_airflow")
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_only_requests_that_need_airflow_fail_while_it_is_down(key: tuple[str, str], fuzzer: Fuzzer) -> None:
    fuzzer.ask(key, count=4, checks=[_is_airflows_fault if key in NEEDS_AIRFLOW else not_a_server_error, *DESCRIBED])


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

    # Logs come from Airflow, which is down.
    assert statuses <= {200, 400, 401, 404, 410} | ({503} if name == "task-log-stream" else set())


def _shows_no_python(ctx: Any, response: Any, case: Any) -> None:
    """Check that a refusal shows no `None`, class or traceback: its readers need not know Python."""
    if response.status_code >= HTTPStatus.BAD_REQUEST:
        assert not PYTHON.search(response.text), response.text


def _is_airflows_fault(ctx: Any, response: Any, case: Any) -> None:
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        assert (response.status_code, response.json()["code"]) == (503, "upstream_unavailable"), response.text
