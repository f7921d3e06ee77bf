"""Writes a typed class for the parameters of a workflow, from their JSON schema."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from keyword import iskeyword
from typing import Any

NAMES = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "null": "None",
    "array": "list[Any]",
    "object": "dict[str, Any]",
}
Schema = Mapping[str, Any]


def source_of(workflow: str, schema: Schema, *, name: str = "") -> str:
    """Return a module with a `TypedDict`: what has no default must be there, and everything else may.

    Names and texts come from whoever wrote the DAG, so none of them is ever taken as code.
    """
    name = name or class_name(workflow)
    properties: dict[str, Schema] = dict(schema.get("properties", {}))
    required = {one for one in schema.get("required", ()) if "default" not in properties.get(one, {})}
    parts = {f"_{name}Required": required & set(properties), name: set(properties) - required}
    odd = {one for one in properties if not one.isidentifier() or iskeyword(one)}
    bases: list[str] = []
    classes: list[str] = []
    for part, names in parts.items():
        total = part != name
        if these := [one for one in properties if one in names & odd]:
            bases.append(f"_{name}Odd{'Required' if total else ''}")
            classes.append(_functional(bases[-1], {one: properties[one] for one in these}, total=total))
        these = [one for one in properties if one in names - odd]
        if these or not total:
            fields = {one: properties[one] for one in these}
            classes.append(_class(part, fields, bases=bases or ["TypedDict"], total=total))
            bases = [part] if total else bases
    head = f"# Parameters of the workflow {_line(workflow)}. Made by `svops types`; do not edit.\n"
    body = "\n\n".join(classes)
    wanted = [one for one in ("Any", "Literal", "TypedDict") if re.search(rf"\b{one}\b", body)]
    imports = f"from __future__ import annotations\n\nfrom typing import {', '.join(wanted)}\n\n\n"
    return f"{head}\n{imports}{body}"


def class_name(workflow: str) -> str:
    """Return the name of the class: `NightlyFiguresParameters` for the workflow `Nightly figures`."""
    words = re.findall(r"[A-Za-z0-9]+", workflow)
    name = "".join(word[0].upper() + word[1:] for word in words) + "Parameters"
    return name if name[0].isalpha() else f"Workflow{name}"


def _class(name: str, fields: Mapping[str, Schema], *, bases: list[str], total: bool) -> str:
    arguments = ", ".join([*bases, *([] if total else ["total=False"])])
    lines = "\n".join(line for field, schema in fields.items() for line in _field(field, schema))
    return f"class {name}({arguments}):\n{lines or '    pass'}\n"


def _field(name: str, schema: Schema) -> Iterator[str]:
    if schema.get("description"):
        yield f"    # {_line(schema['description'])}"
    default = f"  # by default {_line(repr(schema['default']))}" if schema.get("default") is not None else ""
    yield f"    {name}: {type_of(schema)}{default}"


def _functional(name: str, fields: Mapping[str, Schema], *, total: bool) -> str:
    """Return a class whose fields have names that are none in Python."""
    entries = "".join(f"\n        {field!r}: {type_of(schema)!r}," for field, schema in fields.items())
    end = "" if total else "    total=False,\n"
    return f"{name} = TypedDict(\n    {name!r},\n    {{{entries}\n    }},\n{end})\n"


def _line(text: object) -> str:
    """Return a text that ends no comment."""
    return " ".join(str(text).split())[:100]


def type_of(schema: Schema) -> str:
    """Return the type that a schema allows, as it is written in Python; `Any` for what has no such form."""
    if "const" in schema:
        return _choice([schema["const"]])
    if schema.get("enum"):
        return _choice(schema["enum"])
    if alternatives := schema.get("anyOf") or schema.get("oneOf"):
        return _union(type_of(one) for one in alternatives)
    given = schema.get("type")
    kinds = [given] if isinstance(given, str) else list(given or ())
    return _union(_plain(kind, schema) for kind in kinds) if kinds else "Any"


def _plain(kind: str, schema: Schema) -> str:
    if kind == "array" and isinstance(schema.get("items"), Mapping):
        return f"list[{type_of(schema['items'])}]"
    return NAMES.get(kind, "Any")


def _choice(values: list[Any]) -> str:
    """Return a `Literal`, which takes no fractions and nothing that has parts."""
    if all(value is None or isinstance(value, (str, int)) for value in values):
        return f"Literal[{', '.join(map(repr, values))}]"
    return "Any"


def _union(types: Iterator[str]) -> str:
    found = list(dict.fromkeys(types))
    if "Any" in found:
        return "Any"
    return " | ".join(sorted(found, key=lambda one: one == "None"))
