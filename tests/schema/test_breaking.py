"""The check that refuses a break of the API finds breaks, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.schema.breaking import breaks, main

RUN = {"$ref": "#/components/schemas/Run"}
OLD: dict[str, Any] = {
    "paths": {
        "/runs": {
            "get": {
                "operationId": "list_runs",
                "parameters": [{"name": "state", "schema": {"type": "string", "enum": ["failed", "success"]}}],
                "responses": {"200": {"content": {"application/json": {"schema": RUN}}}},
            }
        }
    },
    "components": {
        "schemas": {
            "Run": {
                "properties": {"id": {"type": "string"}, "note": {"type": "string"}}, "required": ["id", "note"],
            },
            "TriggerRequest": {"properties": {"note": {"type": ["string", "null"]}}, "required": []},
        }
    },
}  # fmt: skip
Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> dict[str, Any]:
    new = deepcopy(OLD)
    change(new)
    return new


def run(new: dict[str, Any]) -> dict[str, Any]:
    shape: dict[str, Any] = new["components"]["schemas"]["Run"]
    return shape


def trigger(new: dict[str, Any]) -> dict[str, Any]:
    shape: dict[str, Any] = new["components"]["schemas"]["TriggerRequest"]
    return shape


def listing(new: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = new["paths"]["/runs"]["get"]
    return operation


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda new: new["paths"].clear(), ("list_runs", "the operation is gone")),
        (lambda new: listing(new).update(parameters=[]), ("list_runs", "the parameter state is gone")),
        (
            lambda new: listing(new)["parameters"][0]["schema"].update(enum=["failed"]),
            ("list_runs", "parameter state: success not allowed any more"),
        ),
        (
            lambda new: listing(new)["parameters"].append({"name": "user", "required": True, "schema": {}}),
            ("list_runs", "the parameter user is required"),
        ),
        (lambda new: listing(new).update(responses={}), ("list_runs", "the status 200 is gone")),
        (lambda new: run(new)["properties"].pop("note"), ("Run", "the field note is gone")),
        (lambda new: run(new).update(required=["id"]), ("Run", "the field note can be missing")),
        (
            lambda new: run(new)["properties"].update(id={"type": ["string", "null"]}),
            ("Run", "id: null or string in place of string"),
        ),
        (lambda new: trigger(new).update(required=["note"]), ("TriggerRequest", "the field note is required")),
        (
            lambda new: trigger(new)["properties"].update(note={"type": "string"}),
            ("TriggerRequest", "note: string in place of null or string"),
        ),
    ],
)
def test_a_break_is_found(change: Change, found: tuple[str, str]) -> None:
    assert found in list(breaks(OLD, changed(change)))


@pytest.mark.parametrize(
    "change",
    [
        lambda new: None,
        lambda new: new["paths"].update({"/dags": {"get": {"operationId": "list_dags", "responses": {}}}}),
        lambda new: listing(new)["parameters"].append({"name": "user", "schema": {"type": "integer"}}),
        lambda new: listing(new)["parameters"][0]["schema"]["enum"].append("stopped"),
        lambda new: run(new)["properties"].update(more={"type": "string"}),
        lambda new: trigger(new)["properties"].update(more={"type": "string"}),
    ],
)
def test_an_addition_is_no_break(change: Change) -> None:
    assert list(breaks(OLD, changed(change))) == []


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("- **Breaking**: `Run` has no note any more.", 0),
        ("- `Run` has no note any more.", 1),
        ("- **Breaking**: `Dag` has no note any more.", 1),
    ],
)
def test_a_break_needs_its_line_in_the_unreleased_part(tmp_path: Path, line: str, code: int) -> None:
    old, new, changelog = tmp_path / "old", tmp_path / "new", tmp_path / "changelog"
    old.write_text(json.dumps(OLD))
    new.write_text(json.dumps(changed(lambda new: run(new)["properties"].pop("note"))))
    changelog.write_text(f"# Changelog\n\n## [Unreleased]\n\n{line}\n- Other.\n\n## [1.0]\n\n- **Breaking**: `Run`.\n")

    assert main(old, new, changelog, write=True) == code
    assert (old.read_text() == new.read_text()) is (code == 0)
