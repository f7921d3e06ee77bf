"""What transports get and return. Transports are leaves: they know no rows, no retries and no settings."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import urlsplit

from notifications.outgoing import Answer, Client, NoAnswerError, Recipient, RefusedError

LONGEST_URL = 2_000


class InvalidTargetError(Exception):
    """The target is not valid. `str()` says why, for the user who wants to save it."""


class DeliveryError(Exception):
    """The message did not arrive.

    `permanent`: this message never will. `gone`: no message will, the target no longer exists. `retry_after`: seconds
    that the receiver asks to wait.
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
    """A message in every form that transports use: the envelope for programs, the rest for people."""

    id: str
    body: dict[str, Any]
    title: str
    tone: str = "info"  # info, good or bad
    facts: tuple[tuple[str, str], ...] = ()
    excerpt: str = ""
    links: tuple[tuple[str, str], ...] = ()

    def text(self) -> str:
        """Return the whole message as plain text, which can be encoded."""
        # A line break in a name would begin a line that looks like ours.
        lines = [one_line(self.title), "", *(f"{name}: {one_line(value)}" for name, value in self.facts)]
        if self.excerpt:
            lines += ["", *(f"> {line}" for line in self.excerpt.splitlines())]
        if self.links:
            lines += ["", *(f"{label}: {url}" for label, url in self.links)]
        return encodable("\n".join(lines).rstrip() + "\n")


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where the messages of a config go. Its `repr` shows nothing.

    `done` are the recipients of this message that need no further try, and `withheld` the addresses that must get
    nothing.
    """

    target: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    done: tuple[Recipient, ...] = field(default=(), repr=False)
    withheld: tuple[str, ...] = field(default=(), repr=False)


class Transport(Protocol):
    """A channel. `field` is the name of its target in the API. `for_people` folds repeats by default."""

    label: str
    field: str
    for_people: bool
    takes_secrets: bool
    offered: bool

    def clean(self, target: object, client: Client) -> str:
        """Return the target as it is stored. Raises `InvalidTargetError`."""

    def mask(self, target: str) -> str:
        """Return the part of the target that may be shown."""

    def send(self, message: Message, address: Address, client: Client) -> Answer:
        """Deliver, or raise `DeliveryError`."""


def clean_url(target: object, client: Client) -> str:
    """Return the http(s) URL if its host is permitted now. Raises `InvalidTargetError`."""
    if not isinstance(target, str) or len(target) > LONGEST_URL:
        raise InvalidTargetError(f"Expected a URL of at most {LONGEST_URL} characters.")
    try:
        cleaned = client.check(target.strip())
    except RefusedError as exc:
        raise InvalidTargetError(str(exc)) from exc
    if len(cleaned) > LONGEST_URL:
        raise InvalidTargetError(f"Expected a URL of at most {LONGEST_URL} characters, percent-encoded.")
    return cleaned


def mask_url(target: str) -> str:
    """Return scheme and host: the path of a webhook is its password."""
    parts = urlsplit(target)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}/***"


def post(client: Client, url: str, *, body: bytes, headers: dict[str, str]) -> Answer:
    """Call `Client.post`. Raises only `DeliveryError`. The caller decides about the status."""
    try:
        return client.post(url, body=body, headers=headers)
    except RefusedError as exc:
        # Not permanent: names get other addresses, and operators change what is allowed.
        raise DeliveryError(f"refused: {exc}") from exc
    except NoAnswerError as exc:
        raise DeliveryError(str(exc)) from exc


def failure(answer: Answer, *, gone: Callable[[Answer], bool], permanent: Callable[[Answer], bool]) -> DeliveryError:
    """Return the error for an answer that does not accept the message."""
    return DeliveryError(
        f"HTTP {answer.status}{_remark(answer.status)}",
        gone=gone(answer),
        permanent=permanent(answer),
        retry_after=retry_after(answer, now=datetime.now(UTC)),
        answer=answer,
    )


def is_success(answer: Answer) -> bool:
    return HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES


def _remark(status: int) -> str:
    if status < HTTPStatus.OK:
        return ": no final answer"
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return ": the answer does not say that the message was accepted"
    return ": redirects are not followed" if status < HTTPStatus.BAD_REQUEST else ""


def retry_after(answer: Answer, *, now: datetime) -> float | None:
    """Return the seconds to wait by the `Retry-After` of the answer: a number or an HTTP date."""
    given = {name.lower(): value for name, value in answer.headers.items()}.get("retry-after", "").strip()
    if given.isascii() and given.isdecimal():
        return float(given)
    try:
        at = parsedate_to_datetime(given)
    except (TypeError, ValueError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max((at - now).total_seconds(), 0.0)


def encodable(text: str) -> str:
    """Return the text without surrogates that stand alone: JSON may hold them, and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def one_line(text: str) -> str:
    """Return the text without line breaks and other control characters, for headers and titles."""
    return " ".join("".join(" " if unicodedata.category(c)[0] == "C" else c for c in text).split())
