"""Channel layers for the tests."""

from __future__ import annotations

from typing import Any

from django.conf import settings


def layers_at(redis_url: str) -> dict[str, Any]:
    """Return the `CHANNEL_LAYERS` of the settings, with another Redis."""
    layers: dict[str, Any] = settings.CHANNEL_LAYERS
    layer = layers["default"]
    host = {**layer["CONFIG"]["hosts"][0], "address": redis_url}
    return {"default": {**layer, "CONFIG": {**layer["CONFIG"], "hosts": [host]}}}
