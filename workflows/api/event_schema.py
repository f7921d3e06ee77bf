"""The catalogue of events in the OpenAPI description: each type of event with its own `data`."""

from __future__ import annotations

from typing import Any, get_type_hints

from drf_spectacular.plumbing import resolve_type_hint

from workflows.eventlog.events import CATALOGUE, EventData

Schema = dict[str, Any]


def declare_events(result: Schema, **of_spectacular: Any) -> Schema:
    """Postprocessing hook: an `Event` is one of the catalogue, and `type` says which."""
    schemas: Schema = result["components"]["schemas"]
    envelope, names = schemas["Event"], {name: f"{data.__name__}Event" for name, data in CATALOGUE.items()}
    for name, data in CATALOGUE.items():
        schemas[names[name]] = {
            **envelope,
            "description": data.__doc__,
            "properties": {**envelope["properties"], "type": {"type": "string", "enum": [name]}, "data": _data(data)},
        }
    references = {name: f"#/components/schemas/{component}" for name, component in names.items()}
    schemas["Event"] = {
        "description": envelope["description"],
        "oneOf": [{"$ref": reference} for reference in references.values()],
        "discriminator": {"propertyName": "type", "mapping": references},
    }
    result["components"]["schemas"] = dict(sorted(schemas.items()))
    return result


def _data(cls: type[EventData]) -> Schema:
    fields = {name: hint for name, hint in get_type_hints(cls).items() if name != "type"}
    properties = {name: resolve_type_hint(hint) for name, hint in fields.items()}  # type: ignore[no-untyped-call]
    return {"type": "object", "properties": properties, "required": list(fields)}
