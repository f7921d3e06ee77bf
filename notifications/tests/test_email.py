"""E-mail through Django's SMTP backend and a real mail server."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from django.core.mail.backends.base import BaseEmailBackend
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from notifications import services
from notifications.attempts import Ready, attempt, prepare
from notifications.claims import claim
from notifications.models import Attempt, Delivery, NotificationConfig
from notifications.outgoing import Client
from notifications.settlement import settle
from notifications.tests.conftest import MakeConfig, deliver, fail, make_due, start_run
from notifications.transports.base import Address, InvalidTargetError, Message
from notifications.transports.email import Email
from runner.ports import free_port
from workflows.eventlog import publication
from workflows.models import Event, Workflow

pytestmark = pytest.mark.django_db


class Mailbox:
    """Gives the answers that a test sets, and keeps the mails that it accepts."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.rcpt_answer = ""
        self.rcpt_answers: dict[str, str] = {}
        self.data_answer = ""
        self.mail_answer = ""
        self.hello_answer = ""

    async def handle_RCPT(  # noqa: N802 - the name is aiosmtpd's
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if said := self.rcpt_answers.get(address, self.rcpt_answer):
            return said
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [self.hello_answer] if self.hello_answer else responses

    async def handle_HELO(self, server: SMTP, session: Session, envelope: Envelope, hostname: str) -> str:  # noqa: N802
        session.host_name = hostname
        return self.hello_answer or "250 OK"

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.mail_answer:
            return self.mail_answer
        envelope.mail_from = address
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


def test_a_mail_has_text_html_and_a_stable_id(workflow: Workflow, config: NotificationConfig, mailbox: Mailbox) -> None:
    run = start_run(workflow)
    fail(run, "load")

    deliver()

    (mail,) = mailbox.mails
    row = Delivery.objects.get()
    assert mailbox.recipients == [["ops@example.com", "ada@example.com"]]
    assert (mail["Subject"], mail["From"]) == ("[SVOps] Nightly figures has failed", "svops@localhost")
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
    assert mail["Subject"] == "[SVOps] Figures Bcc: evil@example.com <b> has failed"
    assert mail["Bcc"] is None
    html = mail.get_body(("html",))
    assert html is not None
    assert "<b>" not in html.get_content()


@pytest.mark.parametrize(
    ("answer", "status", "enabled", "error"),
    [
        ("550 no such user", "failed", False, "SMTP 550 no such user"),
        ("551 moved", "failed", False, "SMTP 551 moved"),
        ("554 not from you", "failed", True, "SMTP 554 not from you"),
        ("552 mailbox full", "pending", True, "SMTP 552 mailbox full"),
        ("451 greylisted", "pending", True, "SMTP 451 greylisted"),
        ("421 going down", "pending", True, "SMTP 421 going down"),
    ],
)
def test_refused_recipients_are_gone_refused_or_retried_by_their_code(
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
    row = Delivery.objects.get()
    assert (row.status, config.enabled) == (status, enabled)
    assert {recipient["outcome"] for recipient in row.recipients} == {"refused" if status == "failed" else "waiting"}
    if answer.startswith("421"):  # it ends the session before the second recipient
        error += "; a***@example.com: SMTP 421 the mail server ended the session"
        assert Attempt.objects.get().error == f"not accepted for 2 of 2 recipients: o***@example.com: {error}"
    else:
        whole = f"not accepted for 2 of 2 recipients: o***@example.com, a***@example.com: {error}"
        assert (Attempt.objects.get().error, Attempt.objects.get().status_code) == (whole, int(answer[:3]))


@pytest.fixture
def deaf(mailbox: Mailbox) -> Mailbox:
    """A mail server that accepts the mail only for ops, and says for good that it does not know ada."""
    mailbox.rcpt_answers["ada@example.com"] = "550 5.1.1 <ADA@example.com>: unknown"
    return mailbox


def outcomes(row: Delivery) -> list[tuple[str, str, str]]:
    return [(one["shown"], one["outcome"], one["said"]) for one in row.recipients]


def test_a_recipient_that_is_refused_for_good_is_reported_with_the_words_of_the_server_and_the_other_has_the_mail(
    workflow: Workflow, config: NotificationConfig, deaf: Mailbox
) -> None:
    fail(start_run(workflow))

    deliver()

    config.refresh_from_db()
    row = Delivery.objects.get()
    said = "SMTP 550 5.1.1 <a***@example.com>: unknown"
    reason = f"not accepted for 1 of 2 recipients: a***@example.com: {said}"
    assert deaf.recipients == [["ops@example.com"]]
    assert outcomes(row) == [
        ("o***@example.com", "accepted", "SMTP 250"),
        ("a***@example.com", "refused", said),
    ]
    assert (row.status, row.reason, config.enabled) == ("failed", reason, True)
    assert Event.objects.get(type="notification.failed").data["reason"] == reason
    assert "ada@" not in str(row.recipients)


def test_the_ledger_shows_the_result_for_each_recipient_without_the_addresses(
    workflow: Workflow, config: NotificationConfig, deaf: Mailbox, ada: User, as_user: Callable[[User], APIClient]
) -> None:
    fail(start_run(workflow))
    deliver()

    (row,) = as_user(ada).get("/api/v1/notifications/deliveries").json()["results"]

    assert row["recipients"] == [
        {"recipient": "o***@example.com", "outcome": "accepted", "answer": "SMTP 250"},
        {
            "recipient": "a***@example.com",
            "outcome": "refused",
            "answer": "SMTP 550 5.1.1 <a***@example.com>: unknown",
        },
    ]
    assert "ada@" not in str(row).lower()


def test_a_retry_goes_only_to_those_who_have_not_accepted_the_mail_yet(
    workflow: Workflow, config: NotificationConfig, mailbox: Mailbox
) -> None:
    mailbox.rcpt_answers["ada@example.com"] = "451 greylisted"
    fail(start_run(workflow))
    deliver()
    first = Delivery.objects.get()
    mailbox.rcpt_answers.clear()
    make_due()

    deliver()

    row = Delivery.objects.get()
    assert (first.status, [outcome for _, outcome, _ in outcomes(first)]) == ("pending", ["accepted", "waiting"])
    assert first.reason == "not accepted for 1 of 2 recipients: a***@example.com: SMTP 451 greylisted"
    assert mailbox.recipients == [["ops@example.com"], ["ada@example.com"]]
    assert (row.status, row.reason, {outcome for _, outcome, _ in outcomes(row)}) == ("delivered", "", {"accepted"})
    one, two = mailbox.mails
    assert (one["To"], one["Message-ID"]) == (two["To"], two["Message-ID"])


def test_a_recipient_that_refused_for_good_gets_no_retry_of_the_others(
    workflow: Workflow, config: NotificationConfig, deaf: Mailbox
) -> None:
    deaf.rcpt_answers["ops@example.com"] = "451 greylisted"
    fail(start_run(workflow))
    deliver()
    waiting = Delivery.objects.get().status
    del deaf.rcpt_answers["ops@example.com"]
    deaf.rcpt_answers["ada@example.com"] = "250 OK"
    make_due()

    deliver()

    assert (waiting, deaf.recipients) == ("pending", [["ops@example.com"]])
    assert [outcome for _, outcome, _ in outcomes(Delivery.objects.get())] == ["accepted", "refused"]
    assert Delivery.objects.get().status == "failed"


def test_a_redelivery_goes_to_those_who_refused_and_after_a_delivery_to_everybody(
    workflow: Workflow, config: NotificationConfig, deaf: Mailbox
) -> None:
    fail(start_run(workflow))
    deliver()
    deaf.rcpt_answers.clear()

    services.redeliver(delivery=Delivery.objects.get())
    deliver()
    services.redeliver(delivery=Delivery.objects.get())
    deliver()

    assert deaf.recipients == [["ops@example.com"], ["ada@example.com"], ["ops@example.com", "ada@example.com"]]
    assert Delivery.objects.get().status == "delivered"


def test_who_accepted_it_from_a_worker_that_has_lost_its_lease_gets_no_second_mail(
    workflow: Workflow, config: NotificationConfig, mailbox: Mailbox
) -> None:
    mailbox.rcpt_answers["ada@example.com"] = "451 greylisted"
    fail(start_run(workflow))
    publication.publish()
    (held,) = claim(config.pk, now=timezone.now(), limit=1)
    ready = prepare(held)
    assert isinstance(ready, Ready)
    result = attempt(ready)
    Delivery.objects.update(leased_by="another worker")
    settle(held, result, now=timezone.now(), jitter=0)
    mailbox.rcpt_answers.clear()
    Delivery.objects.update(leased_until=None)
    make_due()

    deliver()

    assert mailbox.recipients == [["ops@example.com"], ["ada@example.com"]]
    assert Delivery.objects.get().status == "delivered"


def test_a_session_that_ends_between_recipients_delivers_to_nobody(
    workflow: Workflow, config: NotificationConfig, mailbox: Mailbox
) -> None:
    mailbox.rcpt_answers["ada@example.com"] = "421 going down"
    fail(start_run(workflow))

    deliver()

    row = Delivery.objects.get()
    assert (row.status, mailbox.mails) == ("pending", [])
    assert [outcome for _, outcome, _ in outcomes(row)] == ["waiting", "waiting"]


@pytest.mark.parametrize(
    ("mail_answer", "hello_answer", "status", "error"),
    [
        ("552 too big", "", "failed", "not accepted for 2 of 2 recipients: {}: SMTP 552 too big"),
        ("553 not this sender", "", "pending", "the mail server refuses SVOps: SMTP 553 not this sender"),
        ("450 later", "", "pending", "the mail server refuses SVOps: SMTP 450 later"),
        ("", "554 go away", "pending", "the mail server refuses SVOps: SMTP 554 go away"),
    ],
)
def test_a_server_that_refuses_the_sender_is_tried_again_and_one_that_refuses_the_size_is_not(
    workflow: Workflow,
    config: NotificationConfig,
    mailbox: Mailbox,
    mail_answer: str,
    hello_answer: str,
    status: str,
    error: str,
) -> None:
    mailbox.mail_answer, mailbox.hello_answer = mail_answer, hello_answer
    fail(start_run(workflow))

    deliver()

    assert Delivery.objects.get().status == status
    assert Attempt.objects.get().error == error.format("o***@example.com, a***@example.com")


def test_a_mail_that_cannot_be_sent_encrypted_is_tried_again_with_the_reason(
    workflow: Workflow, config: NotificationConfig, mailbox: Mailbox, settings: Any
) -> None:
    settings.EMAIL_USE_TLS = True
    fail(start_run(workflow))

    deliver()

    assert Delivery.objects.get().status == "pending"
    assert Attempt.objects.get().error == "the mail server: STARTTLS extension not supported by server."


def test_a_backend_that_sends_nothing_has_delivered_nothing(
    workflow: Workflow, config: NotificationConfig, settings: Any
) -> None:
    settings.EMAIL_BACKEND = "notifications.tests.test_email.Silent"
    fail(start_run(workflow))

    deliver()

    assert Delivery.objects.get().status == "pending"
    assert Attempt.objects.get().error == "the e-mail backend sent nothing"


class Silent(BaseEmailBackend):
    """A backend of an operator that fails silently."""

    def send_messages(self, email_messages: Any) -> int:
        return 0


def test_a_message_with_half_a_character_is_sent_with_a_substitute(
    workflow: Workflow, config: NotificationConfig, mailbox: Mailbox
) -> None:
    message = Message(id="msg_1", body={}, title="Half \ud83d", excerpt="\ud83d")

    Email().send(message, Address(target=config.target), Client())

    (mail,) = mailbox.mails
    text = mail.get_body(("plain",))
    assert text is not None
    assert "> ?" in text.get_content()


def test_the_domain_of_a_recipient_is_stored_in_ascii() -> None:
    assert Email().clean(["ada@b\u00fccher.example"], Client()) == "ada@xn--bcher-kva.example"
    for bad in ("ada@stra\u00dfe.example", "\u017fda@example.com"):
        with pytest.raises(InvalidTargetError, match="is not an e-mail address"):
            Email().clean([bad], Client())


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        ("552 too big", "failed", "SMTP 552 too big"),
        ("550 spam", "failed", "SMTP 550 spam"),
        ("452 full", "pending", "SMTP 452 full"),
    ],
)
def test_a_refused_message_is_final_or_not_by_its_code(
    workflow: Workflow, config: NotificationConfig, mailbox: Mailbox, answer: str, status: str, error: str
) -> None:
    mailbox.data_answer = answer
    fail(start_run(workflow))

    deliver()

    config.refresh_from_db()
    assert (Delivery.objects.get().status, config.enabled) == (status, True)
    whole = f"not accepted for 2 of 2 recipients: o***@example.com, a***@example.com: {error}"
    assert Attempt.objects.get().error == whole


def test_a_mail_server_that_is_down_is_retried(workflow: Workflow, config: NotificationConfig, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port()
    fail(start_run(workflow))

    deliver()

    assert Delivery.objects.get().status == "pending"
    assert Attempt.objects.get().error == "no answer from the mail server: ConnectionRefusedError"


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
