"""What a writable field does not accept, by the OpenAPI description."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.access.table import METHODS

Schema = dict[str, Any]
HUGE = 10**30
NOT_A: dict[str, list[Any]] = {
    "string": [[], {"a": 1}, True],
    "integer": ["x", [], 1.5, {}, HUGE, -HUGE],
    "number": ["x", [], {}],
    "boolean": ["maybe", [], 2, {}],
    "array": ["x", {"a": 1}, 1],
    "object": ["x", [1], 1],
}  # fmt: skip


# Neither an integer nor a string of those that fit.
NEITHER: list[Any] = [True, [], {}, "", "x" * 10_000, HUGE, 2**63]


class Description:
    """The bodies of the described operations."""

    def __init__(self, document: Schema) -> None:
        self._components: Schema = document["components"]["schemas"]
        self._paths: Schema = document["paths"]

    def bodies(self) -> Iterator[tuple[str, str, dict[str, Schema]]]:
        """Yield the path, the method and the fields of each operation that takes a body."""
        for path, operations in self._paths.items():
            for method in METHODS:
                if "requestBody" in operations.get(method, {}):
                    body = operations[method]["requestBody"]["content"]["application/json"]["schema"]
                    yield path, method, self.resolved(body)["properties"]

    def resolved(self, schema: Schema) -> Schema:
        """Follow `$ref`, alone or beside other words, and say `nullable` where null is one of the types."""
        if schema.get("allOf") or {"type": "null"} in schema.get("oneOf", ()):
            word = "allOf" if "allOf" in schema else "oneOf"
            parts = [part for part in schema[word] if part != {"type": "null"}]
            beside = {name: value for name, value in schema.items() if name != word}
            inner = self.resolved(parts[0]) if len(parts) == 1 else {word: parts}
            return {**inner, **beside, "nullable": len(parts) < len(schema[word])}
        if "$ref" in schema:
            beside = {name: value for name, value in schema.items() if name != "$ref"}
            return {**self.resolved(self._components[schema["$ref"].rpartition("/")[2]]), **beside}
        if isinstance(schema.get("type"), list):
            (kind,) = set(schema["type"]) - {"null"}
            return {**schema, "type": kind, "nullable": True}
        return schema

    def wrong(self, schema: Schema, good: Any = None) -> Iterator[tuple[tuple[str, ...], Any]]:
        """Yield values that do not fit, each with the path of the wrong part in it. `good` is a value that fits."""
        schema = self.resolved(schema)
        if not schema.get("nullable", False):
            yield (), None
        if "oneOf" in schema:
            yield from [((), value) for value in NEITHER]
            return
        kind = schema.get("type")
        if kind is not None:
            yield from [((), value) for value in NOT_A[kind]]
        if kind == "array":
            yield from self._wrong_arrays(schema)
        elif kind == "object":
            yield from self._wrong_objects(schema, good if isinstance(good, dict) else {})
        else:
            yield from [((), value) for value in _out_of_bounds(schema)]

    def _wrong_arrays(self, schema: Schema) -> Iterator[tuple[tuple[str, ...], Any]]:
        if schema.get("minItems"):
            yield (), []
        if "maxItems" in schema:
            items = self.resolved(schema["items"])
            fitting = items["enum"][0] if "enum" in items else 1 if items.get("type") == "integer" else "a@example.com"
            yield (), [fitting] * (schema["maxItems"] + 1)
        for path, value in self.wrong(schema["items"]):
            yield ("0", *path), [value]

    def _wrong_objects(self, schema: Schema, good: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
        for name, part in schema.get("properties", {}).items():
            for path, value in self.wrong(part, good.get(name)):
                yield (name, *path), {**good, name: value}
        if "properties" in schema:
            yield ("no_such_field",), {**good, "no_such_field": 1}


def _out_of_bounds(schema: Schema) -> Iterator[Any]:
    if schema.get("minLength"):
        yield ""
    if "maxLength" in schema:
        yield "x" * (schema["maxLength"] + 1)
    if "enum" in schema:
        yield "no such choice"
    if "format" in schema and schema["type"] == "string":
        yield "not one of these"
        yield "\u202e"
    if "pattern" in schema:
        yield "two words"
    if "minimum" in schema:
        yield schema["minimum"] - 1
    if "maximum" in schema:
        yield schema["maximum"] + 1
