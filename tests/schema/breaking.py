"""What a new description of the API breaks for clients that were made from an older one.

    python -m tests.schema.breaking OLD NEW CHANGELOG [--write]

fails for each break that no line of the changelog with the word Breaking names, by the operation or the component.
`--write` then makes NEW the promised one.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Schema = Mapping[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")


def breaks(old: Schema, new: Schema) -> Iterator[tuple[str, str]]:
    """Yield the subject of each break, an operation or a component, and what is broken."""
    before, now = operations(old), operations(new)
    for name, operation in before.items():
        if name not in now:
            yield name, "the operation is gone"
        else:
            yield from ((name, text) for text in _operation(operation, now[name]))
            sent = _body(old, operation), _body(new, now[name])
            yield from ((name, f"body: {text}") for text in _shape(*sent, is_sent=True))
    components: Schema = new["components"]["schemas"]
    for name, component in old["components"]["schemas"].items():
        if name not in components:
            yield name, "the component is gone"
        else:
            is_sent = name.endswith(("Request", "Message"))
            yield from ((name, text) for text in _shape(component, components[name], is_sent=is_sent))


def operations(description: Schema) -> dict[str, dict[str, Any]]:
    return {
        operation["operationId"]: {**operation, "address": f"{method} {path}"}
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    }


def _operation(old: Schema, new: Schema) -> Iterator[str]:
    if old["address"] != new["address"]:
        yield f"moved from {old['address']} to {new['address']}"
    yield from _asked(_parameters(old), _parameters(new))
    for status, answer in old["responses"].items():
        if status.startswith("2") and status not in new["responses"]:
            yield f"the status {status} is gone"
        elif status.startswith("2") and _content(answer) != _content(new["responses"][status]):
            yield f"the answer {status} has another shape"
    if new.get("requestBody", {}).get("required") and not old.get("requestBody", {}).get("required"):
        yield "the body is required"


def _asked(before: dict[str, Schema], now: dict[str, Schema]) -> Iterator[str]:
    for name, parameter in before.items():
        if name not in now:
            yield f"the parameter {name} is gone"
        else:
            yield from (f"parameter {name}: {text}" for text in _shape(parameter["schema"], now[name]["schema"], True))
    for name, parameter in now.items():
        if parameter.get("required") and not before.get(name, {}).get("required"):
            yield f"the parameter {name} is required"


def _parameters(operation: Schema) -> dict[str, Schema]:
    return {parameter["name"]: parameter for parameter in operation.get("parameters", ())}


def _body(description: Schema, operation: Schema) -> Schema:
    """Return the shape of the body, whatever the name of its component is."""
    schema: Schema = _content(operation.get("requestBody", {})).get("application/json") or {}
    named: Schema = description["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], schema)
    return named


def _content(part: Schema) -> dict[str, Any]:
    return {kind: content.get("schema") for kind, content in part.get("content", {}).items()}


def _shape(old: Schema, new: Schema, is_sent: bool) -> Iterator[str]:
    """Yield what breaks. A client that sends must go on to be allowed; one that reads must go on to find."""
    fields, found = old.get("properties", {}), new.get("properties", {})
    for name, field in fields.items():
        if name not in found:
            yield f"the field {name} is gone"
        else:
            yield from (f"{name}: {text}" for text in _shape(field, found[name], is_sent))
    required, needed = set(old.get("required", ())), set(new.get("required", ()))
    for name in sorted(needed - required if is_sent else (required - needed) & found.keys()):
        yield f"the field {name} is required" if is_sent else f"the field {name} can be missing"
    if is_sent and (lost := set(old.get("enum", ())) - set(new.get("enum", old.get("enum", ())))):
        yield f"{', '.join(sorted(map(str, lost)))} not allowed any more"
    kinds, kinds_now = _kinds(old), _kinds(new)
    narrower, wider = kinds - kinds_now, kinds_now - kinds
    if len(kinds) > 1 and not narrower and all(kind[0].isupper() for kind in wider):
        wider = set()  # another kind of event or frame: clients ignore those that they do not know
    if (is_sent and narrower) or (not is_sent and wider and kinds):
        yield f"{' or '.join(sorted(kinds_now)) or 'anything'} in place of {' or '.join(sorted(kinds)) or 'anything'}"
    if "items" in old and "items" in new:
        yield from (f"items: {text}" for text in _shape(old["items"], new["items"], is_sent))


def _kinds(schema: Schema) -> set[str]:
    """Return the types that a value can have. A reference is a type."""
    if "$ref" in schema:
        return {schema["$ref"].rpartition("/")[2]}
    for word in ("oneOf", "anyOf", "allOf"):
        if word in schema:
            return {kind for part in schema[word] for kind in _kinds(part)}
    kind = schema.get("type", [])
    return {kind} if isinstance(kind, str) else set(kind)


def announced(changelog: str) -> str:
    """Return the entries of the unreleased part that say Breaking."""
    unreleased = changelog.partition("## [Unreleased]")[2].partition("\n## [")[0]
    entries = re.split(r"\n(?=- )", unreleased)
    return "\n".join(entry for entry in entries if "breaking" in entry.lower())


def main(old: Path, new: Path, changelog: Path, *, write: bool) -> int:
    said = announced(changelog.read_text())
    found = breaks(json.loads(old.read_text()), json.loads(new.read_text())) if old.exists() else ()
    silent = [(name, text) for name, text in found if not re.search(rf"`{re.escape(name)}`", said)]
    for name, text in silent:
        sys.stdout.write(f"{name}: {text}\n")
    if silent:
        sys.stdout.write(
            "This breaks clients: undo it, or name each in a line of the changelog with the word Breaking.\n"
        )
    elif write:
        old.write_bytes(new.read_bytes())
    return 1 if silent else 0


if __name__ == "__main__":
    paths = [Path(argument) for argument in sys.argv[1:4]]
    sys.exit(main(*paths, write="--write" in sys.argv))
