"""How the OpenAPI description names and types things, so that generators make clients that read well.

The rules here hold for every endpoint. `rest.schema` has the errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from drf_spectacular.openapi import AutoSchema

from rest.ids import UUID_PATTERN
from rest.serializers import OnDemand

VERBS = {
    "list": "list", "retrieve": "get", "create": "create", "partial_update": "update", "destroy": "delete",
}  # fmt: skip
NUMBER_IN_PATH = r"\d{1,18}"
PATH_TYPES: Mapping[str, Mapping[str, Any]] = {
    f"^{NUMBER_IN_PATH}$": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
    f"^{UUID_PATTERN}$": {"type": "string", "format": "uuid"},
}


class ApiSchema(AutoSchema):
    """Names an operation after what it does: `list_workflows`, `get_run`, `pause_workflow`."""

    def get_operation_id(self) -> str:
        """Return `verb_noun`, from the action of the viewset; other views name theirs in `extend_schema`."""
        action, noun = getattr(self.view, "action", None), getattr(self.view, "basename", None)
        if action is None or noun is None:
            return super().get_operation_id()
        noun = noun.replace("-", "_")
        return f"{VERBS.get(action, action)}_{noun}{'s' if action == 'list' else ''}"

    def _get_serializer_name(self, serializer: Any, direction: str, bypass_extensions: bool = False) -> str:
        name: str = super()._get_serializer_name(serializer, direction, bypass_extensions)
        # `TriggerInput` is the shape of a request: `TriggerRequest`, not `TriggerInputRequest`.
        return re.sub("Input(Request)?$", "Request", name) if direction == "request" else name

    def _map_basic_serializer(self, serializer: Any, direction: str) -> dict[str, Any]:
        shape: dict[str, Any] = super()._map_basic_serializer(serializer, direction)  # type: ignore[no-untyped-call]
        if isinstance(serializer, OnDemand):
            shape["required"] = [name for name in shape["required"] if name not in serializer.on_demand]
        return shape

    def _resolve_path_parameters(self, variables: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = super()._resolve_path_parameters(variables)  # type: ignore[no-untyped-call]
        for parameter in found:
            pattern = parameter["schema"].get("pattern", "")
            parameter["schema"] = dict(PATH_TYPES.get(pattern, parameter["schema"]))
        return found


def as_clients_need_it(result: dict[str, Any], **of_spectacular: Any) -> dict[str, Any]:
    """Postprocessing hook: path parameters have the names of what they identify, requests no defaults, null is a type.

    Generators take a field with a default for one that is always there, and so a client would have to send it.
    """
    result["paths"] = {_named(path): operations for path, operations in result["paths"].items()}
    schemas = result["components"]["schemas"]
    enums = {frozenset(part["enum"]): name for name, part in schemas.items() if "enum" in part}
    for path, operations in result["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path":
                    parameter["name"] = _parameter(path, parameter["name"])
                _name_enum(parameter["schema"], enums)
    result["components"]["schemas"].pop("Null", None)
    _with_null(result)
    for name, component in result["components"]["schemas"].items():
        if name.endswith("Request"):
            for field in component.get("properties", {}).values():
                _without_default(field)
    return result


def _named(path: str) -> str:
    """Return `/workflows/{workflow_id}/runs/{run_id}` for `/workflows/{workflow_pk}/runs/{id}`."""
    return re.sub(r"{(\w+)}", lambda found: f"{{{_parameter(path, found[1])}}}", path)


def _parameter(path: str, name: str) -> str:
    if name == "id" and "/runs/{" in path:
        return "run_id"
    return re.sub("_pk$", "_id", name)


def _name_enum(schema: dict[str, Any], enums: Mapping[frozenset[str], str]) -> None:
    """Put the name of an enum that a field has too in the place of its values."""
    if schema.get("type") == "array":
        _name_enum(schema["items"], enums)
    elif name := enums.get(frozenset(schema.get("enum", ()))):
        schema.clear()
        schema["$ref"] = f"#/components/schemas/{name}"


def _with_null(part: Any) -> None:
    """Say null as OpenAPI 3.1 does, everywhere: parts of the library still say it as 3.0 did."""
    if isinstance(part, dict):
        if part.get("nullable") is True:
            del part["nullable"]
            if "type" in part:
                part["type"] = [part["type"], "null"]
            else:
                part["oneOf"].append({"type": "null"})
        if part.get("oneOf") == [{}, {"type": "null"}]:
            del part["oneOf"]  # any JSON, with null
        if part.get("$ref") == "#/components/schemas/Null":
            part |= {"type": "null"}
            del part["$ref"]
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        _with_null(inner)


def _without_default(field: dict[str, Any]) -> None:
    if "default" in field:
        default = field.pop("default")
        if default != "":
            field["description"] = " ".join([*_sentences(field), f"Default: {default}."])


def _sentences(field: Mapping[str, Any]) -> Iterator[str]:
    if text := field.get("description"):
        yield text
