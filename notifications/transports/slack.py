"""Slack's incoming webhooks, with Block Kit."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from notifications.outgoing import Answer, Client
from notifications.transports.base import Address, Message, clean_url, failure, mask_url, one_line, post

# What Slack answers for a webhook that was deleted, or whose channel or team is gone. Its 400s are about the
# payload, save for these words. https://api.slack.com/messaging/webhooks#handling_errors
GONE = {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
GONE_WORDS = {"invalid_token", "no_active_hooks", "no_service", "no_team", "team_disabled", "channel_is_archived"}
SIGNS = {"good": "\N{WHITE HEAVY CHECK MARK}", "bad": "\N{LARGE RED CIRCLE}", "info": "\N{INFORMATION SOURCE}"}
HEADER_LIMIT, FIELD_LIMIT, TEXT_LIMIT, FIELDS_LIMIT, BUTTONS_LIMIT = 150, 2000, 3000, 10, 5


class Slack:
    label = "Slack"
    field = "webhook_url"
    for_people = True
    takes_secrets = False
    offered = True

    def clean(self, target: Any, client: Client) -> str:
        return clean_url(target, client)

    def mask(self, target: str) -> str:
        return mask_url(target)

    def send(self, message: Message, address: Address, client: Client) -> Answer:
        body = json.dumps(render(message)).encode()
        answer = post(client, address.target, body=body, headers={"Content-Type": "application/json"})
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise failure(answer, gone=_is_gone, permanent=lambda a: a.status == HTTPStatus.BAD_REQUEST)
        return answer


def _is_gone(answer: Answer) -> bool:
    return answer.status in GONE or answer.excerpt.strip() in GONE_WORDS


def render(message: Message) -> dict[str, Any]:
    """The message in blocks; `text` is what notifications and screen readers show."""
    title = one_line(f"{SIGNS[message.tone]} {message.title}")
    header = {"type": "header", "text": {"type": "plain_text", "text": _cut(title, HEADER_LIMIT), "emoji": True}}
    blocks = [header, *_fields(message), *_excerpt(message), *_buttons(message)]
    return {"text": escape(_cut(title, TEXT_LIMIT)), "blocks": blocks}


def escape(text: str) -> str:
    """Text that Slack shows as it is: a workflow's name must not mention a channel or fake a link."""
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
    # Backticks would end the block of code; the end of a log says more than its beginning.
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
