"""System checks of settings that have to fit together."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register
def lease_outlasts_a_try(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """A lease that ends during a try would have a second worker make the same delivery meanwhile."""
    longest = 2 * settings.NOTIFICATION_TIMEOUT + settings.AIRFLOW_CONNECT_TIMEOUT + settings.AIRFLOW_READ_TIMEOUT
    if longest < settings.NOTIFICATION_LEASE:
        return []
    hint = f"NOTIFICATION_LEASE has to be more than {longest:g}, which a try can take with its timeouts."
    return [Error("The lease of a delivery is shorter than a try can take.", hint=hint, id="notifications.E001")]
