"""Checks that a webhook comes from the platform."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from svops_client.envelope import Event
from svops_client.errors import WebhookError
from svops_client.parsing import parse_event

TOLERANCE = 300.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """A message that is genuine.

    `id` is the same for each attempt: remember it to recognise repeats. `event` is None for a test or a canary.
    `digest` counts repeats that were held back, `recovery` the failures before this success.
    """

    id: str
    type: str
    event: Event | None
    digest: Mapping[str, Any] | None
    recovery: Mapping[str, Any] | None
    payload: Mapping[str, Any]


def verify_webhook(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: str | Iterable[str],
    *,
    tolerance: float = TOLERANCE,
    now: float | None = None,
) -> Webhook:
    """Return the message if its signature is right for one of the secrets, else raise `WebhookError`.

    `body` is what arrived, before a parser has changed it. A message that is older or newer than `tolerance` seconds is
    refused, because somebody may have recorded it.
    """
    raw = body.encode() if isinstance(body, str) else body
    given = {name.lower(): value for name, value in headers.items()}
    missing = [name for name in ("webhook-id", "webhook-timestamp", "webhook-signature") if not given.get(name)]
    if missing:
        raise WebhookError(f"The header {missing[0]} is missing.")
    stamp = given["webhook-timestamp"]
    if not stamp.isdecimal() or abs((time.time() if now is None else now) - int(stamp)) > tolerance:
        raise WebhookError("The message is too old, or its webhook-timestamp is wrong.")
    signed = b".".join([given["webhook-id"].encode(), stamp.encode(), raw])
    secrets = [secret] if isinstance(secret, str) else list(secret)
    if not any(_is_signed(signed, given["webhook-signature"], one) for one in secrets):
        raise WebhookError("The signature is wrong.")
    return _read(given["webhook-id"], raw)


def _is_signed(signed: bytes, signatures: str, secret: str) -> bool:
    """Whether one of the signatures is right. While a secret is replaced, a message has two."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError as exc:
        raise WebhookError("The secret is not `whsec_` and base64.") from exc
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    found = [one.partition(",")[2] for one in signatures.split(" ") if one.startswith("v1,")]
    return any(hmac.compare_digest(expected.encode(), one.encode()) for one in found)


def _read(message_id: str, raw: bytes) -> Webhook:
    try:
        payload = json.loads(raw)
        kind = str(payload["type"])
        event = parse_event(payload) if payload["id"] is not None else None
    except (ValueError, KeyError, TypeError) as exc:
        raise WebhookError("The body is no event.") from exc
    return Webhook(
        id=message_id,
        type=kind,
        event=event,
        digest=payload.get("digest"),
        recovery=payload.get("recovery"),
        payload=payload,
    )
