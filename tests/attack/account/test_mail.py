"""What somebody with an account can make SVOps write, and to whom."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.message import EmailMessage
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings
from rest_framework.test import APIClient

from accounts import services
from accounts.models import AuditEntry, Role, User
from notifications import link_mails, rules
from notifications import services as notifications
from notifications.models import Delivery, MailConsent, NotificationConfig
from notifications.tests.conftest import deliver, fail, start_run
from notifications.tests.test_email import Mailbox, mailbox
from workflows.models import Dag, Workflow

__all__ = ["mailbox"]

CONFIGS = "/api/v1/notifications/configs"
STRANGERS = [f"stranger{number}@elsewhere.example" for number in range(20)]
EVIL = "Your account is locked:\r\nhttps://evil.example/login <a href='https://evil.example'>Unlock</a>"

Post = Callable[..., Any]


@pytest.fixture(autouse=True)
def _fast(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def mallory(db: None) -> User:
    return User.objects.create_user("mallory", "mallory@example.com", "a long password", role=Role.USER)


@pytest.fixture
def counted(settings: Settings, fresh_counts: None) -> None:
    """Count requests as a platform does. Nothing was counted before."""
    settings.RATE_LIMIT_TEST, settings.RATE_LIMIT_RECIPIENT = "20/hour", "6/hour"


@pytest.fixture
def post(django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks) -> Post:
    """Send a request as a user. What waits for the commit, or for the worker that sends links, happens."""

    def send(user: User, path: str, body: Any = None, method: str = "post") -> Any:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {services.sign_in(user=user).access_token}")
        with django_capture_on_commit_callbacks(execute=True):
            answer = getattr(client, method)(path, body)
        link_mails.send_due(now=timezone.now())
        return answer

    return send


def mail_to(*recipients: str, name: str = "On call") -> dict[str, Any]:
    return {
        "name": name,
        "channel": "email",
        "recipients": list(recipients),
        "notification_types": ["workflow_failed"],
    }


def text_of(mail: EmailMessage, kind: str = "plain") -> str:
    part = mail.get_body((kind,))
    assert part is not None
    return str(part.get_content())


def link_in(mail: EmailMessage) -> str:
    found = re.search(r"http\S+/notifications/confirm\?token=\S+", text_of(mail))
    assert found
    return found[0]


def follow(link: str, answer: str | None = None) -> Any:
    """Open the link, or press a button of its page, without an account."""
    parts = urlsplit(link)
    if answer is None:
        return Client().get(f"{parts.path}?{parts.query}")
    return Client().post(parts.path, {"token": parse_qs(parts.query)["token"][0], "answer": answer})


@pytest.mark.usefixtures("counted")
def test_strangers_get_one_link_and_no_test(mailbox: Mailbox, mallory: User, post: Post) -> None:
    """Before: 60 tests to these 20 strangers in 24 s, 1,200 mails."""
    config = post(mallory, CONFIGS, mail_to(*STRANGERS)).json()
    tests = [post(mallory, f"{CONFIGS}/{config['id']}/test") for _ in range(60)]
    for _ in range(5):
        post(mallory, f"{CONFIGS}/{config['id']}/ask-recipients")

    assert Counter(test.status_code for test in tests) == {200: 20, 429: 40}
    assert {test.json()["status"] for test in tests[:20]} == {"failed"}
    assert int(tests[-1]["Retry-After"]) > 0
    assert sorted(to for mail in mailbox.recipients for to in mail) == sorted(STRANGERS)
    assert {mail["Subject"] for mail in mailbox.mails} == {"[SVOps] May SVOps send you notifications?"}


def test_events_reach_only_those_who_agreed(mailbox: Mailbox, mallory: User, post: Post) -> None:
    """Before: everybody whose address mallory knew."""
    agrees, silent = STRANGERS[:2]
    config = post(mallory, CONFIGS, mail_to("mallory@example.com", agrees, silent)).json()
    asked = [entry["recipient"] for entry in config["unconfirmed_recipients"]]
    page = follow(link_in(mailbox.mails[0]))
    seen_before = MailConsent.objects.filter(confirmed_at__isnull=False).count()
    follow(link_in(mailbox.mails[0]), "agree")
    sent_before = len(mailbox.mails)

    workflow = Workflow.objects.create(name="Nightly", dag=Dag.objects.create(dag_id="etl"), owner=mallory)
    fail(start_run(workflow))
    deliver()

    assert asked == ["s***@elsewhere.example"] * 2
    assert (page.status_code, "mallory" in page.content.decode(), seen_before) == (200, True, 0)
    assert mailbox.recipients[sent_before:] == [["mallory@example.com", agrees]]
    assert mailbox.mails[-1]["To"] == f"mallory@example.com, {agrees}"
    row = Delivery.objects.get()
    assert (row.status, [one["outcome"] for one in row.recipients]) == (
        "delivered",
        ["accepted", "accepted", "unconfirmed"],
    )
    assert AuditEntry.objects.filter(action="mail_recipient.agreed").count() == 1


def test_who_refuses_is_asked_by_nobody_again(mailbox: Mailbox, mallory: User, post: Post) -> None:
    """Before: there was no way to refuse."""
    eve = User.objects.create_user("eve", "eve@example.com", "a long password", role=Role.USER)
    first = post(mallory, CONFIGS, mail_to("victim@elsewhere.example")).json()
    follow(link_in(mailbox.mails[0]), "refuse")

    hers = post(eve, CONFIGS, mail_to("victim@elsewhere.example", "Victim+1@elsewhere.example")).json()
    MailConsent.objects.update(asked_at=None)
    again = post(mallory, f"{CONFIGS}/{first['id']}/ask-recipients").json()

    assert len(mailbox.mails) == 1
    assert [entry["refused"] for entry in again["unconfirmed_recipients"]] == [True]
    assert [entry["asked_at"] for entry in hers["unconfirmed_recipients"]] == [None, None]


@pytest.mark.usefixtures("counted")
def test_one_mailbox_gets_six_mails_an_hour_from_all_accounts_together(mailbox: Mailbox, post: Post) -> None:
    """Before: as many as there are accounts and names with a plus sign."""
    for number in range(10):
        user = User.objects.create_user(f"m{number}", f"m{number}@example.com", "a long password", role=Role.USER)
        post(user, CONFIGS, mail_to(f"victim+{number}@elsewhere.example"))

    assert len(mailbox.mails) == 6


@pytest.mark.usefixtures("counted")
def test_links_of_one_account_are_limited(mailbox: Mailbox, mallory: User, post: Post, settings: Settings) -> None:
    """Before: 20 recipients for each of any number of configs."""
    settings.NOTIFICATION_LINKS_PER_DAY = 5
    for half in (STRANGERS[:10], STRANGERS[10:]):
        post(mallory, CONFIGS, mail_to(*half))

    assert len(mailbox.mails) == 5


def test_an_address_that_an_account_chose_itself_has_to_agree_too(mailbox: Mailbox, mallory: User, post: Post) -> None:
    """Before: nobody was asked. Otherwise an account could make a stranger's address its own."""
    post(mallory, "/api/v1/auth/me", {"email": "victim@elsewhere.example"}, "patch")

    config = post(mallory, CONFIGS, mail_to("victim@elsewhere.example")).json()
    test = post(mallory, f"{CONFIGS}/{config['id']}/test").json()

    assert len(config["unconfirmed_recipients"]) == 1
    assert (test["status"], test["recipients"][0]["outcome"]) == ("failed", "unconfirmed")
    assert [mail["Subject"] for mail in mailbox.mails] == ["[SVOps] May SVOps send you notifications?"]


def test_an_operator_can_allow_a_domain_and_only_that_one(
    mailbox: Mailbox, mallory: User, post: Post, settings: Settings
) -> None:
    settings.NOTIFICATION_EMAIL_DOMAINS = ["corp.example"]

    config = post(
        mallory, CONFIGS, mail_to("A@Corp.example", "b@evil-corp.example", "c@corp.example.evil.example")
    ).json()

    asked = [entry["recipient"] for entry in config["unconfirmed_recipients"]]
    assert asked == ["b***@evil-corp.example", "c***@corp.example.evil.example"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token[:-1] + ("a" if token[-1] != "a" else "b"),
        lambda token: "",
        lambda token: "1:2:3",
        lambda token: token.replace(":", "/"),
    ],
)
def test_a_link_cannot_be_made_or_changed(
    mailbox: Mailbox, mallory: User, post: Post, spoil: Callable[[str], str]
) -> None:
    """Before: there were no links."""
    post(mallory, CONFIGS, mail_to(STRANGERS[0]))
    token = parse_qs(urlsplit(link_in(mailbox.mails[0])).query)["token"][0]

    answers = [
        Client().get("/notifications/confirm", {"token": spoil(token)}),
        Client().post("/notifications/confirm", {"token": spoil(token), "answer": "agree"}),
        Client(enforce_csrf_checks=True).post("/notifications/confirm", {"token": token, "answer": "agree"}),
    ]

    assert [answer.status_code for answer in answers] == [404, 404, 403]
    assert not MailConsent.objects.filter(confirmed_at__isnull=False).exists()


def test_a_link_expires(mailbox: Mailbox, mallory: User, post: Post, settings: Settings) -> None:
    post(mallory, CONFIGS, mail_to(STRANGERS[0]))
    settings.NOTIFICATION_LINK_SECONDS = -1

    assert follow(link_in(mailbox.mails[0]), "agree").status_code == 404
    assert not MailConsent.objects.filter(confirmed_at__isnull=False).exists()


def test_a_mail_server_that_fails_costs_no_link(mailbox: Mailbox, mallory: User, post: Post) -> None:
    """Before: the links were lost, and the owner had to ask again."""
    mailbox.hello_answer = "421 not now"
    config = post(mallory, CONFIGS, mail_to(*STRANGERS[:3])).json()
    waiting = post(mallory, f"{CONFIGS}/{config['id']}/ask-recipients").json()["unconfirmed_recipients"]
    mailbox.hello_answer = ""

    link_mails.send_due(now=timezone.now() + timedelta(minutes=10))

    assert [(row["asked_at"], row["link_due_at"] is not None) for row in waiting] == [(None, True)] * 3
    assert sorted(mailbox.recipients) == [[address] for address in STRANGERS[:3]]


def test_a_link_is_given_up_after_about_a_day_and_may_be_asked_for_again(
    mailbox: Mailbox, mallory: User, post: Post
) -> None:
    mailbox.hello_answer = "421 not now"
    config = post(mallory, CONFIGS, mail_to(STRANGERS[0])).json()
    waits = []
    while (due := MailConsent.objects.get().link_due_at) is not None:
        waits.append(due)
        link_mails.send_due(now=due)
    mailbox.hello_answer = ""

    again = post(mallory, f"{CONFIGS}/{config['id']}/ask-recipients")

    assert len(waits) == len(rules.SCHEDULE)
    assert timedelta(hours=17) < waits[-1] - waits[0] < timedelta(hours=22)
    assert len(mailbox.mails) == 1
    assert again.status_code == 200


def test_an_address_that_the_mail_server_refuses_is_asked_once_a_day(
    mailbox: Mailbox, mallory: User, post: Post
) -> None:
    mailbox.rcpt_answers = {STRANGERS[0]: "550 no such user"}
    post(mallory, CONFIGS, mail_to(STRANGERS[0], STRANGERS[1]))
    consents = MailConsent.objects.order_by("pk")

    assert [(one.link_due_at, one.asked_at is not None) for one in consents] == [(None, True)] * 2
    assert mailbox.recipients == [[STRANGERS[1]]]


@pytest.fixture
def silent_server(settings: Settings) -> Iterator[socket.socket]:
    """A mail server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.getsockname()
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        yield server


def test_a_request_does_not_wait_for_the_mail_server(
    silent_server: socket.socket,
    mallory: User,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    """Before: the request waited 15 s for a mail server that says nothing; the links were lost with the process."""
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {services.sign_in(user=mallory).access_token}")

    with django_capture_on_commit_callbacks(execute=True):
        created = client.post(CONFIGS, mail_to(*STRANGERS))
    asked = client.post(f"{CONFIGS}/{created.json()['id']}/ask-recipients")

    assert (created.status_code, asked.status_code) == (201, 200)
    assert MailConsent.objects.filter(link_due_at__isnull=False).count() == len(STRANGERS)
    with pytest.raises(BlockingIOError):
        silent_server.accept()


def _refuse_elsewhere(config: NotificationConfig) -> None:
    consent = MailConsent.objects.get()
    MailConsent.objects.create(
        owner=None, digest="0" * 64, mailbox=consent.mailbox, shown="v***", refused_at=timezone.now()
    )


def _forget_key(config: NotificationConfig) -> None:
    NotificationConfig.objects.filter(pk=config.pk).update(sealed_target="sealed with a lost key")


@pytest.mark.parametrize(
    ("meanwhile", "sent"),
    [
        (lambda config: None, 1),
        (lambda config: notifications.disable(config=config), 1),
        (lambda config: notifications.update_config(config=config, name="Other"), 1),
        (lambda config: notifications.delete_config(config=config), 0),
        (lambda config: notifications.update_config(config=config, target=["mallory@example.com"]), 0),
        (lambda config: User.objects.filter(pk=config.owner_id).update(is_active=False), 0),
        (lambda config: MailConsent.objects.update(confirmed_at=timezone.now()), 0),
        (lambda config: MailConsent.objects.all().delete(), 0),
        (_refuse_elsewhere, 0),
        (_forget_key, 0),
    ],
)
def test_a_link_is_sent_only_while_it_is_needed(
    mailbox: Mailbox, mallory: User, meanwhile: Callable[[NotificationConfig], object], sent: int
) -> None:
    """Before: it was sent in the request, so nothing could come between."""
    config = notifications.create_config(
        actor=mallory,
        name="On call",
        channel="email",
        target=["victim@elsewhere.example"],
        notification_types=["workflow_failed"],
    )
    meanwhile(config)

    link_mails.send_due(now=timezone.now())

    assert len(mailbox.mails) == sent
    assert not MailConsent.objects.filter(link_due_at__isnull=False).exists()


def test_a_change_that_is_rolled_back_asks_nobody(mailbox: Mailbox, mallory: User) -> None:
    with transaction.atomic():
        notifications.create_config(
            actor=mallory, name="C", channel="email", target=STRANGERS, notification_types=["workflow_failed"]
        )
        transaction.set_rollback(True)

    assert link_mails.send_due(now=timezone.now()) == 0
    assert not MailConsent.objects.exists()


def test_a_name_is_no_text_of_a_mail_to_a_stranger(mailbox: Mailbox, mallory: User, post: Post) -> None:
    """Before: the name of the config, line breaks and all, was the text of the test."""
    config = post(mallory, CONFIGS, mail_to("mallory@example.com", STRANGERS[0], name=EVIL)).json()
    post(mallory, f"{CONFIGS}/{config['id']}/test")

    assert len(mailbox.mails) == 2
    for mail in mailbox.mails:
        assert "evil" not in mail.as_string()
        assert "locked" not in f"{text_of(mail)}{text_of(mail, 'html')}{mail['Subject']}"


def test_the_name_of_a_workflow_makes_no_link_no_line_and_no_header(
    mailbox: Mailbox, mallory: User, post: Post
) -> None:
    """Before: one name made lines of its own in the text, and a link in every mail program."""
    post(mallory, CONFIGS, mail_to("mallory@example.com"))
    dag = Dag.objects.create(dag_id="etl")
    workflow = Workflow.objects.create(name=f"{EVIL}\nBcc: all@evil.example\u202e", dag=dag, owner=mallory)
    fail(start_run(workflow))
    deliver()

    (mail,) = mailbox.mails
    assert mail["Bcc"] is None
    assert len(mail["Subject"]) <= 210
    for part in ("plain", "html"):
        text = text_of(mail, part)
        assert "evil.example" not in text
        assert "https://evil" not in text
        assert "\u202e" not in text
    assert "<a href='" not in text_of(mail, "html")
    assert [line for line in text_of(mail).splitlines() if line.startswith(("http", "Bcc"))] == []
