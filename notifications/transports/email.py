"""E-mail, plain and HTML, through whichever backend Django is set to."""

from __future__ import annotations

import smtplib
from html import escape
from typing import Any

from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.core.validators import validate_email

from notifications.outgoing import Answer, Client
from notifications.transports.base import Address, DeliveryError, InvalidTargetError, Message, one_line

MOST_RECIPIENTS = 20
# "No such mailbox" in its variants; other 5xx are about this message or about us.
GONE = {550, 551, 553}
COLOURS = {"good": "#1a7f37", "bad": "#cf222e", "info": "#0969da"}


class Email:
    label = "E-mail"
    field = "recipients"
    for_people = True
    takes_secrets = False
    offered = True

    def clean(self, target: Any, client: Client) -> str:
        recipients = [part.strip() for part in target.split(",")] if isinstance(target, str) else list(target)
        if not 0 < len(recipients) <= MOST_RECIPIENTS:
            raise InvalidTargetError(f"Expected 1 to {MOST_RECIPIENTS} addresses.")
        for recipient in recipients:
            try:
                validate_email(recipient)
            except ValidationError as exc:
                raise InvalidTargetError(f"{recipient!r} is not an e-mail address.") from exc
        return ", ".join(dict.fromkeys(recipients))

    def mask(self, target: str) -> str:
        return ", ".join(
            f"{name[:1]}***@{domain}" for name, _, domain in (a.partition("@") for a in target.split(", "))
        )

    def send(self, message: Message, address: Address, client: Client) -> Answer:
        mail = EmailMultiAlternatives(
            subject=one_line(message.title),
            body=message.text(),
            to=address.target.split(", "),
            # The same for each attempt: mail programs drop the second copy. RFC 3834: no vacation notice answers.
            headers={"Message-ID": f"<{message.id}@svops>", "Auto-Submitted": "auto-generated"},
        )
        mail.attach_alternative(html(message), "text/html")
        try:
            mail.send()
        except smtplib.SMTPRecipientsRefused as exc:
            raise _refused(exc) from exc
        except smtplib.SMTPResponseException as exc:
            raise _answered(exc) from exc
        except (smtplib.SMTPException, OSError) as exc:
            raise DeliveryError(f"no answer of the mail server: {type(exc).__name__}") from exc
        return Answer(250, {}, "")


def _refused(exc: smtplib.SMTPRecipientsRefused) -> DeliveryError:
    codes = {code for code, _ in exc.recipients.values()}
    reason = f"every recipient was refused: SMTP {', '.join(map(str, sorted(codes)))}"
    return DeliveryError(reason, permanent=min(codes) >= 500, gone=codes <= GONE)


def _answered(exc: smtplib.SMTPResponseException) -> DeliveryError:
    code = exc.smtp_code
    # Refused credentials and senders are the operator's to mend; what is owed waits for that.
    ours = isinstance(exc, smtplib.SMTPAuthenticationError | smtplib.SMTPSenderRefused | smtplib.SMTPConnectError)
    return DeliveryError(f"SMTP {code}", permanent=code >= 500 and not ours)


def html(message: Message) -> str:
    """The message as a page that needs nothing from elsewhere."""
    rows = "".join(
        f'<tr><td style="padding:2px 12px 2px 0;color:#57606a">{escape(name)}</td><td>{escape(value)}</td></tr>'
        for name, value in message.facts
    )
    excerpt = f'<pre style="background:#f6f8fa;padding:8px">{escape(message.excerpt)}</pre>' if message.excerpt else ""
    links = " · ".join(f'<a href="{escape(url)}">{escape(label)}</a>' for label, url in message.links)
    return (
        '<!doctype html><html><body style="font-family:sans-serif">'
        f'<h2 style="color:{COLOURS[message.tone]}">{escape(message.title)}</h2>'
        f"<table>{rows}</table>{excerpt}<p>{links}</p></body></html>"
    )
