"""How request bodies are read. Apart from `svops.api`, which DRF would import in a circle."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

# SQLite takes a thousand levels, and whoever walks through them by recursion takes fewer.
DEEPEST = 100
UNSOUND = re.compile(r"[\x00\ud800-\udfff]")


class SoundJSONParser(JSONParser):
    """JSON that every database and whoever reads it next takes: no NUL, no half of a surrogate pair, no infinity."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        try:
            data = super().parse(stream, media_type, parser_context)
        except RecursionError as exc:
            raise _too_deep() from exc
        _refuse_unsound(data)
        return data


def _too_deep() -> ParseError:
    return ParseError(f"JSON parse error - it is nested too deeply: at most {DEEPEST} levels are taken")


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
            raise ParseError("JSON parse error - a text holds a character that can not be stored")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ParseError("JSON parse error - a number is out of range")
