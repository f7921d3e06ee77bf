"""`svops types`: a typed class for the parameters of a workflow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clients.python.tests.test_command import Svops, home, svops
from svops_client.codegen import class_name, source_of, type_of
from workflows.models import Workflow

__all__ = ["home", "svops"]

ETL = """\
# Parameters of the workflow Nightly. Made by `svops types`; do not edit.

from __future__ import annotations

from typing import Literal, TypedDict


class NightlyParameters(TypedDict, total=False):
    rows: int  # by default 10
    mode: Literal['fast', 'slow']  # by default 'fast'
    table: str | None
"""
USE = """
good: NightlyParameters = {"rows": 5, "my-key": "a"}
bad: NightlyParameters = {"rows": "many", "my-key": "a"}
short: NightlyParameters = {"rows": 5}
"""


def test_the_command_writes_the_class_of_a_workflow(svops: Svops, nightly: Workflow, tmp_path: Path) -> None:
    code, said, _ = svops("types", "Nightly")

    assert (code, said) == (0, ETL)
    assert svops("types", "Nightly", "--out", str(tmp_path / "nightly.py"))[0] == 0
    assert (tmp_path / "nightly.py").read_text() == ETL


def test_a_type_checker_finds_wrong_and_missing_parameters(tmp_path: Path) -> None:
    properties = {"rows": {"type": "integer"}, "my-key": {"type": "string"}}
    text = source_of("Nightly", {"properties": properties, "required": ["my-key"]})
    (tmp_path / "use.py").write_text(text + USE)

    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", "use.py"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout.splitlines()

    assert [line.partition("error: ")[2] for line in found] == [
        'Incompatible types (expression has type "str", TypedDict item "rows" has type "int")  [typeddict-item]',
        'Missing key "my-key" for TypedDict "NightlyParameters"  [typeddict-item]',
    ]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "number"}, "float"),
        ({"type": ["null", "string"]}, "str | None"),
        ({"type": "array", "items": {"type": "integer"}}, "list[int]"),
        ({"type": "array"}, "list[Any]"),
        ({"type": "object", "properties": {}}, "dict[str, Any]"),
        ({"enum": ["a", 1, None]}, "Literal['a', 1, None]"),
        ({"enum": [0.5]}, "Any"),
        ({"const": True}, "Literal[True]"),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, "int | None"),
        ({"$ref": "#/x"}, "Any"),
        ({}, "Any"),
    ],
)
def test_a_schema_has_a_type(schema: dict[str, Any], expected: str) -> None:
    assert type_of(schema) == expected


def test_texts_of_a_dag_are_never_code() -> None:
    evil = 'x"""\nimport os\u2028os.system("true")'
    property_ = {"type": "string", "description": evil, "default": evil, "enum": [evil]}

    text = source_of(evil, {"properties": {"good": property_, evil: property_}})

    made: dict[str, Any] = {}
    exec(text, made)  # noqa: S102 - that is the test
    assert "os" not in made
    assert {name for name in made if not name.startswith("__")} == {
        "annotations", "Literal", "TypedDict", class_name(evil), f"_{class_name(evil)}Odd",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("workflow", "expected"),
    [("Nightly figures", "NightlyFiguresParameters"), ("2nd try", "Workflow2ndTryParameters"), ("é", "Parameters")],
)
def test_a_class_is_called_as_the_workflow_is(workflow: str, expected: str) -> None:
    assert class_name(workflow) == expected
