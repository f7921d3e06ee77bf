"""What a transport is given and what it may say. Leaves: they know no rows, no retries and no settings."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import urlsplit

from notifications.outgoing import Answer, Client, NoAnswerError, RefusedError


class InvalidTargetError(Exception):
    """The target that somebody wants to save is not good; `str()` is for them."""


class DeliveryError(Exception):
    """The message did not arrive.

    `permanent`: this message never will. `gone`: nothing will, the target is no more. `retry_after`: the receiver
    asked for so many seconds.
    """

    def __init__(
        self,
        reason: str,
        *,
        permanent: bool = False,
        gone: bool = False,
        retry_after: float | None = None,
        answer: Answer | None = None,
    ) -> None:
        super().__init__(reason)
        self.permanent = permanent or gone
        self.gone = gone
        self.retry_after = retry_after
        self.answer = answer


@dataclass(frozen=True, kw_only=True)
class Message:
    """What is told, in every form that a transport may want: the envelope for programs, the rest for people."""

    id: str
    body: dict[str, Any]
    title: str
    tone: str = "info"  # info, good or bad
    facts: tuple[tuple[str, str], ...] = ()
    excerpt: str = ""
    links: tuple[tuple[str, str], ...] = ()

    def text(self) -> str:
        """All of it as plain text."""
        lines = [self.title, "", *(f"{name}: {value}" for name, value in self.facts)]
        if self.excerpt:
            lines += ["", *(f"> {line}" for line in self.excerpt.splitlines())]
        if self.links:
            lines += ["", *(f"{label}: {url}" for label, url in self.links)]
        return "\n".join(lines).rstrip() + "\n"


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where one config's messages go. Its `repr` shows nothing."""

    target: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


class Transport(Protocol):
    """A channel. `field` is what its target is called in the API; `for_people` folds repeats by default."""

    label: str
    field: str
    for_people: bool
    takes_secrets: bool
    offered: bool

    def clean(self, target: Any, client: Client) -> str:
        """The target as it is stored; raises `InvalidTargetError`."""

    def mask(self, target: str) -> str:
        """What may be shown of the target."""

    def send(self, message: Message, address: Address, client: Client) -> Answer:
        """Deliver, or raise `DeliveryError`."""


def clean_url(target: Any, client: Client) -> str:
    """An http(s) URL whose host we may reach right now."""
    if not isinstance(target, str) or len(target) > 2_000:
        raise InvalidTargetError("Expected a URL of at most 2000 characters.")
    try:
        client.check(target.strip())
    except RefusedError as exc:
        raise InvalidTargetError(str(exc)) from exc
    return target.strip()


def mask_url(target: str) -> str:
    """Scheme and host: the path of a webhook is its password."""
    parts = urlsplit(target)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}/***"


def post(client: Client, url: str, *, body: bytes, headers: dict[str, str]) -> Answer:
    """`Client.post` in the terms of deliveries; any status below 300 has arrived, others are the caller's to judge."""
    try:
        return client.post(url, body=body, headers=headers)
    except RefusedError as exc:
        # Not permanent: names are moved about, and operators change what is allowed.
        raise DeliveryError(f"refused: {exc}") from exc
    except NoAnswerError as exc:
        raise DeliveryError(str(exc)) from exc


def failure(answer: Answer, *, gone: Callable[[Answer], bool], permanent: Callable[[Answer], bool]) -> DeliveryError:
    """The error that stands for an answer of 300 and above."""
    reason = f"HTTP {answer.status}"
    if answer.status < HTTPStatus.BAD_REQUEST:
        reason += ": redirects are not followed"
    return DeliveryError(
        reason,
        gone=gone(answer),
        permanent=permanent(answer),
        retry_after=retry_after(answer, now=datetime.now(UTC)),
        answer=answer,
    )


def retry_after(answer: Answer, *, now: datetime) -> float | None:
    """Seconds until the receiver wants to be asked again, from its `Retry-After`: a number or an HTTP date."""
    given = {name.lower(): value for name, value in answer.headers.items()}.get("retry-after", "").strip()
    if given.isascii() and given.isdecimal():
        return float(given)
    try:
        at = parsedate_to_datetime(given)
    except (TypeError, ValueError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max((at - now).total_seconds(), 0.0)


def one_line(text: str) -> str:
    """Without line breaks and other control characters, for headers and titles."""
    return " ".join("".join(" " if unicodedata.category(c)[0] == "C" else c for c in text).split())
