"""Services of Apprise that were reviewed, by their URLs.

Apprise opens connections in many ways that this code cannot check. So it runs in a few processes of its own. They can
connect only where the policy permits, and read no files of others. One that takes too long is ended.
"""

from __future__ import annotations

from notifications.apprise_schemes import SCHEMES, scheme_of
from notifications.apprise_workers import WORKERS, WorkerError
from notifications.outgoing import Answer, Client
from notifications.transports.base import Address, DeliveryError, InvalidTargetError, Message, encodable, one_line

TYPES = {"good": "success", "bad": "failure", "info": "info"}
NOT_REVIEWED = f"Must be a URL of one of these services: {', '.join(sorted(SCHEMES))}."


class Apprise:
    label = "Apprise"
    field = "url"
    for_people = True
    takes_secrets = False
    offered = True

    def clean(self, target: object, client: Client) -> str:
        if not isinstance(target, str) or not 0 < len(target) <= 2_000:
            raise InvalidTargetError("Expected an Apprise URL of at most 2000 characters.")
        try:
            _ask({"do": "check", "url": target.strip()}, client)
        except DeliveryError as exc:
            raise InvalidTargetError(str(exc)) from exc
        return target.strip()

    def mask(self, target: str) -> str:
        return f"{target.partition('://')[0]}://***"

    def send(self, message: Message, address: Address, client: Client) -> Answer:
        order = {
            "do": "send",
            "url": address.target,
            "title": one_line(message.title),
            "text": message.text().partition("\n")[2].strip() or encodable(message.title),
            "type": TYPES[message.tone],
        }
        _ask(order, client)
        return Answer(200, {}, "")


def _ask(order: dict[str, str], client: Client) -> None:
    """Give the order to a process of Apprise. Raises `DeliveryError`."""
    if scheme_of(order["url"]) is None:
        raise DeliveryError(NOT_REVIEWED, permanent=True)
    given = {**order, "allowed": [str(network) for network in client.policy.allowed]}
    try:
        answer = WORKERS.ask(given, size=client.apprise_workers, timeout=client.timeout)
    except WorkerError as exc:
        raise DeliveryError(str(exc)) from exc
    if answer["error"]:
        raise DeliveryError(answer["error"], permanent=answer["permanent"])
