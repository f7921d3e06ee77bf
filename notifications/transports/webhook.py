"""Webhooks to any program, signed by the rules of https://www.standardwebhooks.com."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets as random_secrets
import time
from http import HTTPStatus

from django.core.serializers.json import DjangoJSONEncoder

from notifications.outgoing import Answer, Client
from notifications.transports.base import (
    Address,
    InvalidTargetError,
    Message,
    clean_url,
    failure,
    is_success,
    mask_url,
    post,
)

PREFIX = "whsec_"


def new_secret() -> str:
    return PREFIX + base64.b64encode(random_secrets.token_bytes(32)).decode()


def clean_secret(secret: str) -> str:
    """Return the secret as the standard writes it: `whsec_` and 24 to 64 bytes in base64."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidTargetError("Must be whsec_ followed by base64.") from exc
    if not 24 <= len(key) <= 64:
        raise InvalidTargetError("Must hold 24 to 64 bytes.")
    return PREFIX + base64.b64encode(key).decode()


def signature(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


class Webhook:
    label = "Webhook"
    field = "url"
    for_people = False
    takes_secrets = True
    offered = True

    def clean(self, target: object, client: Client) -> str:
        return clean_url(target, client)

    def mask(self, target: str) -> str:
        return mask_url(target)

    def send(self, message: Message, address: Address, client: Client) -> Answer:
        body = json.dumps(message.body, cls=DjangoJSONEncoder, separators=(",", ":")).encode()
        timestamp = int(time.time())
        # One signature for each secret: while a secret is replaced, receivers know the old or the new one.
        signatures = [
            signature(secret, message_id=message.id, timestamp=timestamp, body=body) for secret in address.secrets
        ]
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(signatures),
        }
        answer = post(client, address.target, body=body, headers=headers)
        if not is_success(answer):
            # By the standard, 410 says that the receiver wants no more messages. Other errors may be a bad deployment.
            raise failure(answer, gone=lambda a: a.status == HTTPStatus.GONE, permanent=lambda a: False)
        return answer
