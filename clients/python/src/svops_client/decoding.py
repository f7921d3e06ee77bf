"""Makes typed objects from JSON. What a newer platform adds is ignored, what an older one does not send is None."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


def decode(cls: type[T], raw: Mapping[str, Any]) -> T:
    """Make a dataclass from a JSON object."""
    return cls(**{name: _value(hint, raw.get(name)) for name, hint in _hints(cast("Any", cls)).items()})


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls) if field.init}


def _value(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    if get_origin(hint) in {Union, types.UnionType}:
        return _value(next((one for one in get_args(hint) if _is_structured(one)), None), value)
    if hint is datetime:
        return moment(value)
    if get_origin(hint) is list:
        return [_value(get_args(hint)[0], one) for one in value]
    if is_dataclass(hint):
        return decode(cast("type[Any]", hint), value)
    return value


def _is_structured(hint: Any) -> bool:
    return hint is datetime or is_dataclass(hint) or get_origin(hint) is list


def moment(text: str) -> datetime:
    """Read a time of the platform: ISO 8601 in UTC. Python 3.10 does not read the Z."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
