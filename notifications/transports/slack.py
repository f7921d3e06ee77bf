"""Slack's incoming webhooks, with Block Kit."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from notifications.outgoing import Answer, Client
from notifications.transports.base import (
    Address,
    Message,
    clean_url,
    failure,
    is_success,
    mask_url,
    one_line,
    post,
)

# Slack's answers for a webhook that was deleted, or whose channel or team is gone. Its 400s concern the payload,
# except with these words. They count with any status: a proxy may answer 200 with them. https://api.slack.com/messaging/webhooks#handling_errors
GONE = {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
GONE_WORDS = {"invalid_token", "no_active_hooks", "no_service", "no_team", "team_disabled", "channel_is_archived"}
REFUSING_WORDS = {"invalid_payload", "invalid_blocks", "no_text", "too_many_attachments"}
SIGNS = {"good": "\N{WHITE HEAVY CHECK MARK}", "bad": "\N{LARGE RED CIRCLE}", "info": "\N{INFORMATION SOURCE}"}
HEADER_LIMIT, FIELD_LIMIT, TEXT_LIMIT, FIELDS_LIMIT, BUTTONS_LIMIT = 150, 2000, 3000, 10, 5


class Slack:
    label = "Slack"
    field = "webhook_url"
    for_people = True
    takes_secrets = False
    offered = True

    def clean(self, target: object, client: Client) -> str:
        return clean_url(target, client)

    def mask(self, target: str) -> str:
        return mask_url(target)

    def send(self, message: Message, address: Address, client: Client) -> Answer:
        body = json.dumps(render(message)).encode()
        answer = post(client, address.target, body=body, headers={"Content-Type": "application/json"})
        if not _is_accepted(answer):
            raise failure(answer, gone=_is_gone, permanent=_is_refused)
        return answer


def _is_accepted(answer: Answer) -> bool:
    """Return whether the answer is Slack's `ok`: a 2xx alone may come from a proxy or a sign-in page.

    Hooks of workflows and compatible servers say it in JSON.
    """
    if not is_success(answer):
        return False
    said = answer.excerpt.strip()
    try:
        said_in_json = json.loads(said)
    except ValueError:
        return said == "ok"
    return isinstance(said_in_json, dict) and True in (said_in_json.get("ok"), said_in_json.get("success"))


def _is_gone(answer: Answer) -> bool:
    return answer.status in GONE or answer.excerpt.strip() in GONE_WORDS


def _is_refused(answer: Answer) -> bool:
    return answer.status == HTTPStatus.BAD_REQUEST or answer.excerpt.strip() in REFUSING_WORDS


def render(message: Message) -> dict[str, Any]:
    """Return the message in blocks. Notifications and screen readers show `text`."""
    title = one_line(f"{SIGNS[message.tone]} {message.title}")
    header = {"type": "header", "text": {"type": "plain_text", "text": _cut(title, HEADER_LIMIT), "emoji": True}}
    blocks = [header, *_fields(message), *_excerpt(message), *_buttons(message)]
    return {"text": escape(_cut(title, TEXT_LIMIT)), "blocks": blocks}


def escape(text: str) -> str:
    """Escape the text: a workflow's name must not mention a channel or fake a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _fields(message: Message) -> list[dict[str, Any]]:
    fields = [
        {"type": "mrkdwn", "text": _cut(f"*{escape(name)}*\n{escape(value)}", FIELD_LIMIT)}
        for name, value in message.facts[:FIELDS_LIMIT]
    ]
    return [{"type": "section", "fields": fields}] if fields else []


def _excerpt(message: Message) -> list[dict[str, Any]]:
    if not message.excerpt:
        return []
    # Backticks would end the code block. The end of a log says more than its beginning.
    text = escape(message.excerpt.replace("```", "'''"))[-(TEXT_LIMIT - 10) :]
    return [{"type": "section", "text": {"type": "mrkdwn", "text": f"```{text}```"}}]


def _buttons(message: Message) -> list[dict[str, Any]]:
    buttons = [
        {"type": "button", "text": {"type": "plain_text", "text": _cut(label, 75)}, "url": url}
        for label, url in message.links[:BUTTONS_LIMIT]
    ]
    return [{"type": "actions", "elements": buttons}] if buttons else []


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
