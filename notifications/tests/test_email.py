"""E-mail through Django's SMTP backend and a real mail server."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from notifications.models import Attempt, Delivery, NotificationConfig
from notifications.outgoing import Client
from notifications.tests.conftest import MakeConfig, deliver, fail, start_run
from notifications.transports.base import InvalidTargetError, Message
from notifications.transports.email import Email
from svops.local.ports import free_port
from workflows.models import Workflow

pytestmark = pytest.mark.django_db


class Mailbox:
    """Answers as it is told, and keeps what it accepts."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.rcpt_answer = ""
        self.data_answer = ""

    async def handle_RCPT(  # noqa: N802 - the name is aiosmtpd's
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.rcpt_answer:
            return self.rcpt_answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.data_answer:
            return self.data_answer
        assert isinstance(envelope.content, bytes)
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        self.recipients.append(list(envelope.rcpt_tos))
        return "250 OK"


@pytest.fixture
def mailbox(settings: Any) -> Iterator[Mailbox]:
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = controller.hostname, controller.port
    controller.start()
    yield mailbox
    controller.stop()


@pytest.fixture
def config(make_config: MakeConfig) -> NotificationConfig:
    return make_config(channel="email", target=["ops@example.com", "ada@example.com"])


def test_a_mail_has_text_html_and_an_id_that_stays(
    workflow: Workflow, config: NotificationConfig, mailbox: Mailbox
) -> None:
    run = start_run(workflow)
    fail(run, "load")

    deliver()

    (mail,) = mailbox.mails
    row = Delivery.objects.get()
    assert mailbox.recipients == [["ops@example.com", "ada@example.com"]]
    assert (mail["Subject"], mail["From"]) == ("Nightly figures has failed", "svops@localhost")
    assert mail["Message-ID"] == f"<{row.message_id}@svops>"
    assert mail["Auto-Submitted"] == "auto-generated"
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    assert "Failed tasks: load" in text.get_content()
    assert "> exit 1" in text.get_content()
    assert f"/#/workflows/{workflow.pk}/runs/{run.pk}" in html.get_content()
    assert (row.status, row.attempts.get().status_code) == ("delivered", 250)


def test_a_name_with_line_breaks_and_markup_does_no_harm(
    workflow: Workflow, config: NotificationConfig, mailbox: Mailbox
) -> None:
    Workflow.objects.filter(pk=workflow.pk).update(name="Figures\r\nBcc: evil@example.com <b>")
    fail(start_run(workflow))

    deliver()

    (mail,) = mailbox.mails
    assert mail["Subject"] == "Figures Bcc: evil@example.com <b> has failed"
    assert mail["Bcc"] is None
    html = mail.get_body(("html",))
    assert html is not None
    assert "<b>" not in html.get_content()


@pytest.mark.parametrize(
    ("answer", "status", "enabled", "error"),
    [
        ("550 no such user", "failed", False, "every recipient was refused: SMTP 550"),
        ("554 not from you", "failed", True, "every recipient was refused: SMTP 554"),
        ("451 greylisted", "pending", True, "every recipient was refused: SMTP 451"),
    ],
)
def test_refused_recipients_are_gone_refused_or_asked_again_by_their_code(
    workflow: Workflow,
    config: NotificationConfig,
    mailbox: Mailbox,
    answer: str,
    status: str,
    enabled: bool,
    error: str,
) -> None:
    mailbox.rcpt_answer = answer
    fail(start_run(workflow))

    deliver()

    config.refresh_from_db()
    assert (Delivery.objects.get().status, config.enabled) == (status, enabled)
    assert Attempt.objects.get().error == error


@pytest.mark.parametrize(
    ("answer", "status", "error"), [("552 too big", "failed", "SMTP 552"), ("452 full", "pending", "SMTP 452")]
)
def test_a_refused_message_is_final_or_not_by_its_code(
    workflow: Workflow, config: NotificationConfig, mailbox: Mailbox, answer: str, status: str, error: str
) -> None:
    mailbox.data_answer = answer
    fail(start_run(workflow))

    deliver()

    assert Delivery.objects.get().status == status
    assert Attempt.objects.get().error == error


def test_no_mail_server_is_waited_for(workflow: Workflow, config: NotificationConfig, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port()
    fail(start_run(workflow))

    deliver()

    assert Delivery.objects.get().status == "pending"
    assert Attempt.objects.get().error == "no answer of the mail server: ConnectionRefusedError"


def test_recipients_are_checked_and_masked(config: NotificationConfig) -> None:
    assert config.target_hint == "o***@example.com, a***@example.com"
    for bad in (
        "",
        "no address",
        [],
        ["a@example.com\r\nBcc: b@example.com"],
        [f"u{n}@example.com" for n in range(21)],
    ):
        with pytest.raises(InvalidTargetError):
            Email().clean(bad, Client())


def test_plain_text_has_all_of_the_message() -> None:
    message = Message(
        id="msg_1", body={}, title="Title", facts=(("Run", "1"),), excerpt="a\nb", links=(("Open", "https://x"),)
    )

    assert message.text() == "Title\n\nRun: 1\n\n> a\n> b\n\nOpen: https://x\n"
