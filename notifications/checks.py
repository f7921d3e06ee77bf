"""System checks of settings that must fit together."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register
def lease_outlasts_a_try(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Check that a lease lasts longer than an attempt: otherwise a second worker would make the same delivery."""
    longest = 2 * settings.NOTIFICATION_TIMEOUT + settings.AIRFLOW_CONNECT_TIMEOUT + settings.AIRFLOW_READ_TIMEOUT
    if longest < settings.NOTIFICATION_LEASE:
        return []
    hint = f"NOTIFICATION_LEASE must be more than {longest:g}: with its timeouts, an attempt can take that long."
    return [Error("The lease of a delivery is shorter than an attempt can take.", hint=hint, id="notifications.E001")]
