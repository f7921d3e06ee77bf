"""Everything that Apprise knows, by its URLs.

Apprise opens connections in a hundred ways that are not ours to check. So each delivery runs in a process of its own,
in which nothing connects but where the policy permits, and which is ended when its time is over.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from notifications.outgoing import Answer, Client
from notifications.transports.base import Address, DeliveryError, InvalidTargetError, Message, one_line

ROOT = Path(__file__).resolve().parent.parent.parent
TYPES = {"good": "success", "bad": "failure", "info": "info"}


class Apprise:
    label = "Apprise"
    field = "url"
    for_people = True
    takes_secrets = False
    offered = True

    def clean(self, target: Any, client: Client) -> str:
        if not isinstance(target, str) or not 0 < len(target) <= 2_000:
            raise InvalidTargetError("Expected an Apprise URL of at most 2000 characters.")
        try:
            _in_a_process({"do": "check", "url": target.strip()}, client)
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
            "text": message.text().partition("\n")[2].strip() or message.title,
            "type": TYPES[message.tone],
        }
        _in_a_process(order, client)
        return Answer(200, {}, "")


def _in_a_process(order: dict[str, str], client: Client) -> None:
    """Carry the order out; raises `DeliveryError`."""
    given = {**order, "allowed": [str(network) for network in client.policy.allowed]}
    # Without our environment: no proxies, and none of our secrets in a process that runs foreign code.
    environment = {name: os.environ[name] for name in ("PATH", "SSL_CERT_FILE") if name in os.environ}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "notifications.apprise_process"],
            cwd=ROOT,
            env=environment,
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=client.timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise DeliveryError(f"no complete answer within {client.timeout:g} s") from exc
    if done.returncode:
        raise DeliveryError("Apprise ended without an answer")
    answer = json.loads(done.stdout)
    if answer["error"]:
        raise DeliveryError(answer["error"], gone=answer["gone"])
