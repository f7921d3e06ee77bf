"""E-mail, plain and HTML, through Django's e-mail backend. Each recipient is accepted, refused or tried again."""

from __future__ import annotations

import hashlib
import re
import smtplib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import parseaddr
from html import escape

from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.mail.backends.smtp import EmailBackend
from django.core.validators import validate_email

from notifications.outgoing import Answer, Client, Recipient, ascii_host
from notifications.transports.base import (
    Address,
    DeliveryError,
    InvalidTargetError,
    Message,
    encodable,
    one_line,
)

MOST_RECIPIENTS = 20
ACCEPTED, REFUSED, WAITING, UNCONFIRMED = "accepted", "refused", "waiting", "unconfirmed"
OK = 250
# The variants of "no such mailbox". Other 5xx concern this message or this server.
GONE = {550, 551, 553}
TOO_MUCH = 552  # to a recipient: the mailbox is full, or there are too many recipients (RFC 5321, 4.5.3.1.10)
LONGEST_WORDS = 200
LONGEST_TEXT = 200
# An invisible character behind each of these keeps mail programs from making a link.
WORD_JOINER = "\u2060"
LINKS = re.compile(r":(?=//)|@|(?<=[^\W_])\.(?=[^\W\d_])|\b(?:mailto|tel):", re.IGNORECASE)
COLOURS = {"good": "#1a7f37", "bad": "#cf222e", "info": "#0969da"}


class Email:
    label = "E-mail"
    field = "recipients"
    for_people = True
    takes_secrets = False
    offered = True

    def clean(self, target: object, client: Client) -> str:
        recipients = [part.strip() for part in target.split(",")] if isinstance(target, str) else target
        if not isinstance(recipients, list | tuple):
            raise InvalidTargetError("Expected a list of addresses.")
        if not 0 < len(recipients) <= MOST_RECIPIENTS:
            raise InvalidTargetError(f"Expected 1 to {MOST_RECIPIENTS} addresses.")
        return ", ".join(dict.fromkeys(_clean(recipient) for recipient in recipients))

    def mask(self, target: str) -> str:
        return ", ".join(masked(recipient) for recipient in target.split(", "))

    def send(self, message: Message, address: Address, client: Client) -> Answer:
        done = {recipient.key: recipient for recipient in address.done}
        keys = {name: _key(message, name) for name in recipients_in(address.target)}
        withheld = tuple(_withheld(name, keys.pop(name)) for name in address.withheld if name in keys)
        if not keys:
            raise DeliveryError(
                f"no recipient has confirmed: {', '.join(recipient.shown for recipient in withheld)}",
                permanent=True,
                answer=Answer(0, {}, "", withheld),
            )
        to = [name for name, key in keys.items() if key not in done]
        replies = _offer(_mail(message, list(keys)), to) if to else {}
        recipients = tuple(done.get(key) or _settled(name, key, replies[name]) for name, key in keys.items())
        if any(recipient.outcome != ACCEPTED for recipient in recipients):
            raise _not_accepted(recipients, withheld, replies.values())
        return Answer(OK, {}, "", (*recipients, *withheld))


def _clean(recipient: object) -> str:
    """Return the address in ASCII. Raises `InvalidTargetError`."""
    try:
        given = recipient if isinstance(recipient, str) else ""
        validate_email(given)
        cleaned = in_ascii(given)
        cleaned.encode("ascii")
        return cleaned
    except (ValidationError, UnicodeError) as exc:
        raise InvalidTargetError(f"{recipient!r} is not an e-mail address.") from exc


def in_ascii(recipient: str) -> str:
    """Return the address with its domain in IDNA. Raises `UnicodeError` if there is no such form."""
    name, at, domain = recipient.rpartition("@")
    return recipient if domain.isascii() else f"{name}{at}{ascii_host(domain)}"


def recipients_in(target: str) -> list[str]:
    """Return the addresses of a target in ASCII. Raises `DeliveryError` if one has no such form."""
    try:
        return [in_ascii(recipient) for recipient in target.split(", ")]
    except UnicodeError as exc:
        raise DeliveryError("the domain of a recipient cannot be written in ASCII", permanent=True) from exc


def masked(recipient: str) -> str:
    name, _, domain = recipient.rpartition("@")
    return f"{name[:1]}***@{domain}"


def _key(message: Message, recipient: str) -> str:
    # The ledger must recognise a recipient and not hold its address.
    return hashlib.sha256(f"{message.id} {recipient}".encode()).hexdigest()[:24]


def _mail(message: Message, recipients: list[str]) -> EmailMultiAlternatives:
    shown = _inert(message)
    mail = EmailMultiAlternatives(
        subject=f"[SVOps] {_cut(one_line(message.title))}",
        body=shown.text(),
        to=recipients,
        # The id is the same for each attempt: mail programs drop the second copy. RFC 3834: no automatic reply.
        headers={"Message-ID": f"<{message.id}@svops>", "Auto-Submitted": "auto-generated"},
    )
    mail.attach_alternative(html(shown), "text/html")
    return mail


def _inert(message: Message) -> Message:
    """Return the message with texts of users that no mail program turns into links; only our own links work.

    Somebody who names a workflow must not write a mail in our name to people who trust SVOps.
    """
    return replace(
        message,
        title=_unlinked(_cut(one_line(message.title))),
        facts=(
            *((name, _unlinked(_cut(one_line(value)))) for name, value in message.facts),
            (
                "About this mail",
                "a notification config asks for it. Names and quotes are texts of users.",
            ),
        ),
        excerpt=_unlinked("\n".join(one_line(encodable(line)) for line in message.excerpt.splitlines())),
    )


def _unlinked(text: str) -> str:
    return LINKS.sub(lambda found: f"{found[0]}{WORD_JOINER}", text)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"


@dataclass(frozen=True)
class Reply:
    """The server's last word about one recipient. `to_mail`: it is about the whole mail."""

    code: int
    words: str = ""
    to_mail: bool = False

    @property
    def outcome(self) -> str:
        if self.code == OK:
            return ACCEPTED
        is_final = self.code >= 500 and (self.to_mail or self.code != TOO_MUCH)
        return REFUSED if is_final else WAITING


def _offer(mail: EmailMultiAlternatives, to: list[str]) -> dict[str, Reply]:
    """Send the mail to these recipients and return the reply for each. Raises `DeliveryError` if there is none."""
    try:
        refused = _hand_over(mail, to)
    except smtplib.SMTPRecipientsRefused as exc:
        # After a 421, which ends the session, the others were accepted, but nothing was sent to them.
        rest = Reply(421, "the mail server ended the session")
        return dict.fromkeys(to, rest) | {name: _reply(*said) for name, said in exc.recipients.items()}
    except smtplib.SMTPResponseException as exc:
        return dict.fromkeys(to, _reply_to_mail(exc))
    except smtplib.SMTPNotSupportedError as exc:
        raise DeliveryError(f"the mail server: {exc}") from exc
    except (smtplib.SMTPException, OSError) as exc:
        raise DeliveryError(f"no answer from the mail server: {type(exc).__name__}") from exc
    except ValueError as exc:
        raise DeliveryError(f"the mail cannot be sent with these settings: {type(exc).__name__}") from exc
    return dict.fromkeys(to, Reply(OK)) | {name: _reply(*said) for name, said in refused.items()}


def _hand_over(mail: EmailMultiAlternatives, to: list[str]) -> dict[str, tuple[int, bytes]]:
    """Send the mail to these recipients of its header, and return those that the server refused."""
    backend = get_connection()
    if not isinstance(backend, EmailBackend):
        mail.to = to
        if backend.send_messages([mail]) == 0:
            raise DeliveryError("the e-mail backend sent nothing")
        return {}
    try:
        backend.open()
        if backend.connection is None:
            raise DeliveryError("the e-mail backend does not connect")
        # The stubs do not know that `message` returns a class of Django's.
        content = mail.message().as_bytes(linesep="\r\n")  # type: ignore[call-arg]
        # Not by `send_messages`: it hides that some of the recipients were refused.
        return backend.connection.sendmail(_sender(mail), to, content)
    finally:
        with suppress(smtplib.SMTPException, OSError):
            backend.close()


def _sender(mail: EmailMultiAlternatives) -> str:
    return in_ascii(parseaddr(mail.from_email)[1])


def _reply(code: int, words: bytes | str, *, to_mail: bool = False) -> Reply:
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    return Reply(code, one_line(text), to_mail)


def _reply_to_mail(exc: smtplib.SMTPResponseException) -> Reply:
    """Return the reply. Raises `DeliveryError` if the operator has to correct something: deliveries wait for that."""
    reply = _reply(exc.smtp_code, exc.smtp_error, to_mail=True)
    is_too_big = isinstance(exc, smtplib.SMTPSenderRefused) and reply.code == TOO_MUCH
    if isinstance(exc, smtplib.SMTPDataError) or is_too_big:
        return reply
    raise DeliveryError(
        f"the mail server refuses SVOps: {_words(reply)[:LONGEST_WORDS]}", answer=Answer(reply.code, {}, "")
    ) from exc


def _words(reply: Reply) -> str:
    return f"SMTP {reply.code} {reply.words}".strip()


def _withheld(recipient: str, key: str) -> Recipient:
    return Recipient(key=key, shown=masked(recipient), outcome=UNCONFIRMED, said="The recipient has not agreed yet.")


def _settled(recipient: str, key: str, reply: Reply) -> Recipient:
    shown = masked(recipient)
    # Servers repeat the address in their words.
    said = re.sub(re.escape(recipient), lambda _: shown, _words(reply), flags=re.IGNORECASE)[:LONGEST_WORDS]
    is_gone = reply.code in GONE and not reply.to_mail
    return Recipient(key=key, shown=shown, outcome=reply.outcome, said=said, gone=is_gone)


def _not_accepted(
    recipients: tuple[Recipient, ...], withheld: tuple[Recipient, ...], replies: Iterable[Reply]
) -> DeliveryError:
    """Return the error that names each recipient that did not accept the mail, with the server's words."""
    left_out: dict[str, list[str]] = {}
    for recipient in recipients:
        if recipient.outcome != ACCEPTED:
            left_out.setdefault(recipient.said, []).append(recipient.shown)
    count = sum(map(len, left_out.values()))
    named = "; ".join(f"{', '.join(shown)}: {said}" for said, shown in left_out.items())
    code = max((reply.code for reply in replies), default=0)  # smtplib says -1 for an answer that it cannot read
    return DeliveryError(
        f"not accepted for {count} of {len(recipients)} recipients: {named}",
        permanent=all(recipient.outcome != WAITING for recipient in recipients),
        gone=all(recipient.outcome == REFUSED and recipient.gone for recipient in recipients),
        answer=Answer(max(code, 0), {}, "", (*recipients, *withheld)),
    )


def html(message: Message) -> str:
    """Return the message as a page without external resources. It can be encoded."""
    rows = "".join(
        f'<tr><td style="padding:2px 12px 2px 0;color:#57606a">{escape(name)}</td><td>{escape(value)}</td></tr>'
        for name, value in message.facts
    )
    excerpt = f'<pre style="background:#f6f8fa;padding:8px">{escape(message.excerpt)}</pre>' if message.excerpt else ""
    links = " · ".join(f'<a href="{escape(url)}">{escape(label)}</a>' for label, url in message.links)
    return encodable(
        '<!doctype html><html><body style="font-family:sans-serif">'
        f'<h2 style="color:{COLOURS[message.tone]}">{escape(message.title)}</h2>'
        f"<table>{rows}</table>{excerpt}<p>{links}</p></body></html>"
    )
