"""The channels. A new one is a module, a line here and a test file."""

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
