"""From JSON to an event of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from svops_client.decoding import decode
from svops_client.envelope import Event
from svops_client.events import BY_TYPE


def parse_event(raw: Mapping[str, Any]) -> Event:
    """Return the event of its own class, or an `Event` if the platform is newer than this package."""
    event = decode(BY_TYPE.get(str(raw["type"]), Event), raw)
    # The dataclass is frozen, and no caller gives this field.
    object.__setattr__(event, "raw", raw)
    return event
