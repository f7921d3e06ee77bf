"""The channels, one module each. A new channel is a module, a line here and a test file.

A transport checks and masks its target and sends a message. It knows no rows, no retries and no settings.
Start with `base`, then `slack`.
"""

from __future__ import annotations

from notifications.transports.apprise import Apprise
from notifications.transports.base import Transport
from notifications.transports.canary import Canary
from notifications.transports.email import Email
from notifications.transports.slack import Slack
from notifications.transports.webhook import Webhook

CHANNELS: dict[str, Transport] = {
    "slack": Slack(),
    "webhook": Webhook(),
    "email": Email(),
    "apprise": Apprise(),
    "canary": Canary(),
}
OFFERED: dict[str, Transport] = {name: transport for name, transport in CHANNELS.items() if transport.offered}
