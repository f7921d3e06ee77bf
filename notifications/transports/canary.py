"""A receiver inside SVOps: what arrives here proves that what is owed is taken up and carried out."""

from __future__ import annotations

from typing import Any

from notifications.outgoing import Answer, Client
from notifications.transports.base import Address, Message


class Canary:
    label = "Canary"
    field = "target"
    for_people = False
    takes_secrets = False
    offered = False

    def clean(self, target: Any, client: Client) -> str:
        return "svops"

    def mask(self, target: str) -> str:
        return target

    def send(self, message: Message, address: Address, client: Client) -> Answer:
        return Answer(204, {}, "")
