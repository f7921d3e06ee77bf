"""JSON Schema as Airflow checks it, with a bound on the work: neither an author nor a caller can keep a process busy.

The keywords are those of the `jsonschema` library. Those that search with Python's `re`, or compare each value with
each other one, are replaced. All count their work: a schema of ten lines can refer to itself a billion times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import attrs
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend, validator_for
from referencing import Registry

from workflows.parameters import patterns

MOST_WORK = 200_000  # keywords, and members of what they compare, for one parameter
# To look up a reference takes as long as this many other keywords.
WEIGHTS = {"$ref": 20, "$dynamicRef": 20, "$recursiveRef": 20}
REVERSING = frozenset({"not", "oneOf", "if", "contains", "disallow", "extends"})
LONGEST_FORMATTED = 4_096  # characters of a text whose format is checked

Schema = Mapping[str, Any]
Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]

# A `$ref` is resolved within its own schema: nothing that a DAG author writes makes us open a URL.
_NO_REMOTE: Registry[Any] = Registry()


class TooCostlyError(ValueError):
    """To check this value takes more work than `MOST_WORK`."""

    def __init__(self) -> None:
        super().__init__("it takes too much work to check")


@dataclass
class _Work:
    has_patterned_names: bool
    left: int = MOST_WORK


_WORK: ContextVar[_Work] = ContextVar("work of the check")


def errors(schema: Schema, value: Any) -> list[ValidationError]:
    """Check a value by the draft that its schema names. May raise what the library does, and `TooCostlyError`."""
    if is_left_to_airflow(schema):
        return []
    kind = bounded(validator_for(schema, default=Draft202012Validator))
    token = _WORK.set(_Work(has_patterned_names=any("patternProperties" in part for part in _mappings(schema))))
    try:
        with without_panic():
            return list(kind(dict(schema), registry=_NO_REMOTE, format_checker=FORMATS).iter_errors(value))
    finally:
        _WORK.reset(token)


def unsearchable(schema: Schema) -> list[str]:
    """Return the patterns of a schema that cannot be searched for in linear time. They are taken to match."""
    found = {part["pattern"] for part in _mappings(schema) if isinstance(part.get("pattern"), str)}
    for part in _mappings(schema):
        if isinstance(names := part.get("patternProperties"), dict):
            found |= names.keys()
    return sorted(pattern for pattern in found if _is_unsearchable(pattern))


def is_left_to_airflow(schema: Schema) -> bool:
    """Return whether nothing of a schema is checked: one of its patterns cannot be, and a keyword may reverse it."""
    return any(REVERSING & part.keys() for part in _mappings(schema)) and bool(unsearchable(schema))


def _is_unsearchable(pattern: str) -> bool:
    try:
        return patterns.search(pattern) is None
    except re.error:
        return False  # no pattern at all: the check itself says so


def check_schema(schema: Schema) -> None:
    """Raise `SchemaError` if this is no JSON schema."""
    with without_panic():
        kind: Any = validator_for(schema, default=Draft202012Validator)
        kind.check_schema(schema, format_checker=FORMATS)


@contextmanager
def without_panic() -> Iterator[None]:
    """Turn a panic of the library's Rust part into the `RecursionError` behind it: a panic is no `Exception`."""
    try:
        yield
    except BaseException as exc:
        if type(exc).__name__ != "PanicException":
            raise
        raise RecursionError("maximum recursion depth exceeded") from exc


@cache
def bounded(kind: Any) -> Any:
    """Return a draft of the library with our keywords."""
    if kind.evolve is _evolved:
        return kind
    known = dict(kind.VALIDATORS)
    ours = {name: function for name, function in REPLACED.items() if name in known}
    counted = {name: _counted(function, weight=WEIGHTS.get(name, 0)) for name, function in (known | ours).items()}
    made: Any = extend(kind, counted)  # type: ignore[no-untyped-call]
    made.evolve = _evolved
    return made


def _evolved(validator: Any, **changes: Any) -> Any:
    """As the library's `evolve`. A part of a schema may name another draft, which is bounded too."""
    kind: Any = type(validator)
    schema = changes.get("schema", validator.schema)
    if isinstance(schema, Mapping) and "$schema" in schema:
        kind = bounded(validator_for(schema, default=kind))
    return kind(**({alias: getattr(validator, name) for name, alias in _fields(kind)} | changes))


@cache
def _fields(kind: Any) -> list[tuple[str, str]]:
    return [(field.name, str(field.alias)) for field in attrs.fields(kind) if field.init]


def _counted(keyword: Keyword, *, weight: int) -> Keyword:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        spend(1 + (len(value) if isinstance(value, list | dict) else 0) + weight)
        yield from keyword(validator, value, instance, schema) or ()

    return counted


def spend(amount: int) -> None:
    """Count work. Raises `TooCostlyError` when there was too much."""
    work = _WORK.get()
    work.left -= amount
    if work.left < 0:
        raise TooCostlyError


# --- The keywords ---------------------------------------------------------------------------------------------


def _pattern(validator: Any, pattern: Any, instance: Any, schema: Schema) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _found(pattern, instance, otherwise=True):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, declared: Any, instance: Any, schema: Schema) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, subschema in declared.items():
        spend(len(instance))
        for name, value in instance.items():
            if _found(pattern, name, otherwise=False):
                yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Schema) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    matching = list(schema.get("patternProperties", {}))
    spend(len(instance) * (1 + len(matching)))
    extras = [
        name
        for name in instance
        if name not in schema.get("properties", {})
        and not any(_found(pattern, name, otherwise=True) for pattern in matching)
    ]
    if validator.is_type(allowed, "object"):
        for extra in extras:
            yield from validator.descend(instance[extra], allowed, path=extra)
    elif not allowed and extras:
        named = ", ".join(repr(name) for name in sorted(extras, key=str))
        if matching:
            verb = "does" if len(extras) == 1 else "do"
            listed = ", ".join(map(repr, sorted(matching)))
            yield ValidationError(f"{named} {verb} not match any of the regexes: {listed}")
        else:
            verb = "was" if len(extras) == 1 else "were"
            yield ValidationError(f"Additional properties are not allowed ({named} {verb} unexpected)")


def _unevaluated_properties(validator: Any, allowed: Any, instance: Any, schema: Schema) -> Iterator[ValidationError]:
    # The library searches with Python's `re` for the names that patterns have matched anywhere in the schema.
    if not _WORK.get().has_patterned_names:
        yield from Draft202012Validator.VALIDATORS["unevaluatedProperties"](validator, allowed, instance, schema) or ()


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, Mapping):
            yield part
            left += part.values()
        elif isinstance(part, list):
            left += part


def _unique_items(validator: Any, is_unique: Any, instance: Any, schema: Schema) -> Iterator[ValidationError]:
    if is_unique and validator.is_type(instance, "array"):
        spend(len(instance))
        if len({_key(item) for item in instance}) < len(instance):
            yield ValidationError(f"{instance!r} has non-unique elements")


def _key(value: Any) -> Hashable:
    """Return a key that is equal for values that JSON Schema takes as equal: 1 equals 1.0, but not true."""
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, list):
        return ("array", tuple(_key(item) for item in value))
    if isinstance(value, dict):
        return ("object", frozenset((name, _key(item)) for name, item in value.items()))
    return ("value", value)


def _found(pattern: Any, text: str, *, otherwise: bool) -> bool:
    """Return whether the pattern is found in the text, or `otherwise` if that cannot be said in linear time."""
    spend(1 + len(text) // 256)
    found = patterns.search(pattern)
    return otherwise if found is None else found(text)


REPLACED: Mapping[str, Keyword] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "unevaluatedProperties": _unevaluated_properties,
    "uniqueItems": _unique_items,
}

# --- The formats ----------------------------------------------------------------------------------------------


class _Formats(FormatChecker):
    """Every format that is installed, of any draft, as Airflow has them."""

    def check(self, instance: object, format: str) -> None:
        # A longer text is left to Airflow: some of the library's functions take quadratic time.
        if not isinstance(instance, str) or len(instance) <= LONGEST_FORMATTED:
            super().check(instance, format)


FORMATS = _Formats()
FORMATS.checkers = dict(FORMATS.checkers) | {
    "regex": (lambda value: not isinstance(value, str) or patterns.is_regex(value), ()),
}
