"""The environment variables that the project's own code reads, found in its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.compose import REPOSITORY

PACKAGES = ("svops", "rest", "accounts", "workflows", "notifications", "console", "runner", "dags", "plugins")
UNKNOWN = object()


@dataclass(frozen=True)
class Reading:
    """One place that reads the variable `name`; `default` is UNKNOWN if only the running code knows it."""

    name: str
    default: object


def readings() -> list[Reading]:
    return [reading for path in _sources() for reading in _readings_in(ast.parse(path.read_text()))]


def names() -> set[str]:
    return {reading.name for reading in readings()}


def _sources() -> Iterator[Path]:
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            if "tests" not in path.parts:
                yield path


def _readings_in(tree: ast.AST) -> Iterator[Reading]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _reads(node.func) and node.args:
            name, default = node.args[0], _default(node)
        elif isinstance(node, ast.Subscript) and _looks_up(node):
            name, default = node.slice, UNKNOWN
        else:
            continue
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            yield Reading(name.value, default)


def _looks_up(node: ast.Subscript) -> bool:
    return isinstance(node.ctx, ast.Load) and ast.unparse(node.value) == "os.environ"


def _reads(function: ast.expr) -> bool:
    text = ast.unparse(function)
    return text in {"os.environ.get", "os.getenv"} or text.startswith("env.")


def _default(call: ast.Call) -> object:
    for keyword in call.keywords:
        if keyword.arg == "default":
            return _value(keyword.value)
    return UNKNOWN


def _value(node: ast.expr) -> object:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        left, right = _value(node.left), _value(node.right)
        return left * right if isinstance(left, int) and isinstance(right, int) else UNKNOWN
    return node.value if isinstance(node, ast.Constant) else UNKNOWN
