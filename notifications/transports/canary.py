"""A receiver inside SVOps: a message that arrives here proves that workers make the deliveries."""

from __future__ import annotations

from notifications.outgoing import Answer, Client
from notifications.transports.base import Address, Message


class Canary:
    label = "Canary"
    field = "target"
    for_people = False
    takes_secrets = False
    offered = False

    def clean(self, target: object, client: Client) -> str:
        return "svops"

    def mask(self, target: str) -> str:
        return target

    def send(self, message: Message, address: Address, client: Client) -> Answer:
        return Answer(204, {}, "")
