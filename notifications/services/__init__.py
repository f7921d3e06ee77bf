"""The write path: each function is one change. The API, the admin pages and the commands all call it.

The loop that sends is not here but in `notifications.delivery`. Start with `configs`.
"""

from notifications.services.configs import (
    MOST_SECRETS,
    TYPES,
    Changes,
    Options,
    create_config,
    delete_config,
    disable,
    enable,
    reseal,
    rotate_secret,
    update_config,
)
from notifications.services.deliveries import (
    SETTLED,
    AlreadyScheduledError,
    ConfigDisabledError,
    canary_arrived_at,
    create_canaries,
    forget,
    overdue,
    redeliver,
    redeliver_range,
    send_test,
)
from notifications.services.links import InvalidLinkError, answer_link, ask_recipients, consent_of

__all__ = [
    "MOST_SECRETS",
    "SETTLED",
    "TYPES",
    "AlreadyScheduledError",
    "Changes",
    "ConfigDisabledError",
    "InvalidLinkError",
    "Options",
    "answer_link",
    "ask_recipients",
    "canary_arrived_at",
    "consent_of",
    "create_canaries",
    "create_config",
    "delete_config",
    "disable",
    "enable",
    "forget",
    "overdue",
    "redeliver",
    "redeliver_range",
    "reseal",
    "rotate_secret",
    "send_test",
    "update_config",
]
