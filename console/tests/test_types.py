"""What `types.d.ts` says about the API's answers, compared with the OpenAPI description."""

from __future__ import annotations

import re
from typing import Any

import pytest
from drf_spectacular.generators import SchemaGenerator

from runner.home import REPOSITORY

# The interface in types.d.ts, and the component of the OpenAPI description.
SAME = {
    "Me": "Me",
    "Run": "RunDetail",
    "Attempt": "RunAttempt",
    "TaskRef": "TaskRef",
    "Answer": "TaskAnswer",
    "Question": "TaskQuestion",
    "TaskInstance": "Task",
    "LogLine": "LogLine",
    "LogPage": "Log",
    "LogPreparing": "LogPreparing",
    "Workflow": "Workflow",
    "Dag": "Dag",
    "DagDetail": "DagDetail",
    "LogEvent": "Event",
    "Reason": "Reason",
}
INTERFACE = re.compile(r"^  interface (\w+)(?: extends \w+)? \{\n(.*?)^  \}", re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"^    (\w+)\??: (.+);$", re.MULTILINE)


@pytest.fixture(autouse=True)
def _airflow_answers() -> None:
    """These tests need no page."""


@pytest.fixture(scope="module")
def components() -> dict[str, Any]:
    schema: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    found: dict[str, Any] = schema["components"]["schemas"]
    return found


def interfaces() -> dict[str, dict[str, str]]:
    text = (REPOSITORY / "console/types.d.ts").read_text()
    return {name: dict(FIELD.findall(body)) for name, body in INTERFACE.findall(text)}


def variants_of(components: dict[str, Any], component: str) -> list[dict[str, Any]]:
    """Return the properties of the component, or of each of its variants."""
    found = components[component]
    names = [one["$ref"].rpartition("/")[2] for one in found["oneOf"]] if "oneOf" in found else [component]
    return [components[name]["properties"] for name in names]


def agrees(fields: dict[str, str], variants: list[dict[str, Any]]) -> None:
    """Assert that each field is in a variant, and that its type has null where a variant can have it."""
    assert fields
    assert [name for name in fields if not any(name in one for one in variants)] == []
    nullable = {name for one in variants for name, schema in one.items() if _may_be_null(schema)}
    assert {name for name, kind in fields.items() if kind.endswith("| null")} == nullable & set(fields)


def _may_be_null(schema: dict[str, Any]) -> bool:
    return "null" in schema.get("type", ()) or {"type": "null"} in schema.get("oneOf", ())


@pytest.mark.parametrize(("interface", "component"), SAME.items())
def test_the_console_reads_only_fields_that_the_api_returns_and_expects_null_where_it_can_be_null(
    components: dict[str, Any], interface: str, component: str
) -> None:
    agrees(interfaces()[interface], variants_of(components, component))


def test_the_same_holds_for_the_data_of_events(components: dict[str, Any]) -> None:
    refs = [properties["data"]["$ref"] for properties in variants_of(components, "Event")]
    data = [components[ref.rpartition("/")[2]]["properties"] for ref in refs]

    agrees(interfaces()["EventData"], data)
