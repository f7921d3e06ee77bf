"""Text and JSON as every database stores them: PostgreSQL refuses NUL, half a character, NaN and Infinity."""

from __future__ import annotations

import json
import math
import re
from typing import Any

# NUL, and the two halves of a character beyond U+FFFF, which JSON can write alone.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(value: Any) -> Any:
    """Return `value` with a replacement for what cannot be stored: NaN and Infinity become text."""
    if isinstance(value, str):
        return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    return value


def is_storable(value: Any) -> bool:
    """Return whether JSON can be stored as it is."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return bool(storable(value) == value)
