"""Parsers of request bodies. They import nothing of DRF's views: DRF imports them while it is itself imported."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser
from rest_framework.utils.json import strict_constant

# SQLite stores a thousand levels, but recursive code fails before that.
DEEPEST = 100
UNSOUND = re.compile(r"[\x00\ud800-\udfff]")


class SoundJSONParser(JSONParser):
    """JSON that all databases and readers accept: UTF-8, each name once, no NUL, no lone surrogate, no infinity."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        try:
            # Always UTF-8 (RFC 8259), whatever the caller names: DRF would take any of Python's codecs.
            text = str(stream.read(), "utf-8")
            data = json.loads(text, parse_constant=strict_constant, object_pairs_hook=_each_once)
        except RecursionError as exc:
            raise _too_deep() from exc
        except ValueError as exc:
            raise ParseError(f"JSON parse error - {exc}") from exc
        _refuse_unsound(data)
        return data


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object; a name that occurs twice is an error, because readers differ in which value they take."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a name twice")
    return found


def _too_deep() -> ParseError:
    return ParseError(f"JSON parse error - it is nested too deeply; expected at most {DEEPEST} levels")


def _refuse_unsound(data: Any) -> None:
    left = [(data, 1)]
    while left:
        value, level = left.pop()
        if isinstance(value, dict | list):
            if level > DEEPEST:
                raise _too_deep()
            parts = [*value, *value.values()] if isinstance(value, dict) else value
            left += [(part, level + 1) for part in parts]
        elif isinstance(value, str) and UNSOUND.search(value):
            raise ParseError("JSON parse error - a text has a character that cannot be stored")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ParseError("JSON parse error - a number is out of range")
