"""The catalogue of events in the OpenAPI description, and as JSON Schema: each type of event with its own `data`."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

from drf_spectacular.plumbing import resolve_type_hint

from workflows.eventlog.events import CATALOGUE, EventData

Schema = dict[str, Any]
COMPONENTS = "#/components/schemas/"


def declare_events(result: Schema, **of_spectacular: Any) -> Schema:
    """Postprocessing hook: an `Event` is one of the catalogue, and `type` says which."""
    schemas: Schema = result["components"]["schemas"]
    envelope, names = schemas["Event"], {name: f"{data.__name__}Event" for name, data in CATALOGUE.items()}
    enums = {tuple(part["enum"]): name for name, part in schemas.items() if "enum" in part}
    for name, data in CATALOGUE.items():
        schemas[f"{data.__name__}Data"] = _data(data, enums)
        own = {"type": {"type": "string", "const": name}, "data": {"$ref": f"{COMPONENTS}{data.__name__}Data"}}
        described = {"description": inspect.getdoc(data), "properties": {**envelope["properties"], **own}}
        schemas[names[name]] = {**envelope, **described}
    references = {name: f"{COMPONENTS}{component}" for name, component in names.items()}
    schemas["Event"] = {
        "description": envelope["description"],
        "oneOf": [{"$ref": reference} for reference in references.values()],
        "discriminator": {"propertyName": "type", "mapping": references},
    }
    result["components"]["schemas"] = dict(sorted(schemas.items()))
    return result


def _data(cls: type[EventData], enums: Mapping[tuple[str, ...], str]) -> Schema:
    fields = {name: hint for name, hint in get_type_hints(cls).items() if name != "type"}
    properties = {name: _with_names(resolve_type_hint(hint), enums) for name, hint in fields.items()}  # type: ignore[no-untyped-call]
    return {"type": "object", "properties": properties, "required": list(fields)}


def _with_names(part: Any, enums: Mapping[tuple[str, ...], str]) -> Any:
    """Return a part of a schema in which each enum that has a name is a reference to it."""
    if isinstance(part, list):
        return [_with_names(inner, enums) for inner in part]
    if not isinstance(part, dict):
        return part
    if isinstance(part.get("enum"), list) and (named := enums.get(tuple(part["enum"]))):
        return {"$ref": f"{COMPONENTS}{named}"}
    return {name: _with_names(inner, enums) for name, inner in part.items() if name != "x-spec-enum-id"}


def json_schema(description: Mapping[str, Any], address: str) -> Schema:
    """Return the JSON Schema of an event, from the OpenAPI description. `address` is its own."""
    text = json.dumps({"$defs": closure(description, ["Event"])})
    defs: Schema = json.loads(text.replace(COMPONENTS, "#/$defs/"))["$defs"]
    event = defs.pop("Event")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": address,
        "title": "An event of SVOps",
        **{name: part for name, part in event.items() if name != "discriminator"},
        "$defs": defs,
    }


def closure(description: Mapping[str, Any], names: list[str]) -> Schema:
    """Return these schemas of the description, and all that they refer to, by name."""
    schemas, found, left = description["components"]["schemas"], {}, list(names)
    while left:
        name = left.pop()
        if name not in found:
            found[name] = schemas[name]
            left += _referred(schemas[name])
    return dict(sorted(found.items()))


def _referred(schema: Mapping[str, Any]) -> Iterator[str]:
    yield from re.findall(rf'"{COMPONENTS}(\w+)"', json.dumps(schema))
