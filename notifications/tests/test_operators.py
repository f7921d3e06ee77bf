"""The admin pages and the commands for operators."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.test import Client as Browser

from accounts.models import User
from notifications import services
from notifications.models import Delivery, MailConsent, NotificationConfig
from notifications.tests import receiver as behaviours
from notifications.tests.conftest import MakeConfig, complete, deliver, fail, make_due, start_run
from notifications.tests.receiver import Receiver
from workflows.models import Run, Visibility, Workflow

pytestmark = pytest.mark.django_db

LIST = "/admin/notifications/notificationconfig/"


@pytest.fixture
def browser(root: User) -> Browser:
    browser = Browser()
    browser.force_login(root)
    return browser


def why(browser: Browser, who: str, run: Run) -> list[str]:
    page = browser.get(f"{LIST}why", {"user": who, "run": str(run.pk)}).content.decode()
    return re.findall(r"<tr>\s*<td>.*?</td>\s*<td>.*?</td>\s*<td>.*?</td>\s*<td>(.*?)</td>", page, re.DOTALL)


def test_one_page_shows_each_reason_why_somebody_was_not_notified(
    browser: Browser, workflow: Workflow, make_config: MakeConfig, receiver: Receiver, bob: User
) -> None:
    receiver.at["/broken"] = behaviours.answer(500)
    make_config(actor=bob, name="Notified")
    make_config(actor=bob, name="Broken", target=f"{receiver.url}/broken")
    make_config(actor=bob, name="Filtered", filters={"tags": ["weekly"]})
    make_config(actor=bob, name="Other types", notification_types=["workflow_completed"])
    services.disable(config=make_config(actor=bob, name="Off"), reason="on holiday")
    run = start_run(workflow)
    fail(run)
    deliver()
    make_config(actor=bob, name="Too late")

    answers = why(browser, "bob", run)

    assert [re.sub(r"\d{4}-.* UTC", "T", answer) for answer in answers] == [
        "Delivered at T.",
        "Pending: HTTP 500.",
        "Not sent: filtered out by tags.",
        "Not sent: the config does not subscribe to workflow_failed.",
        "Suppressed: the config was disabled: on holiday.",
        "Not sent: the config was created at T, after the event.",
    ]


def test_the_page_distinguishes_no_config_from_no_access(
    browser: Browser, workflow: Workflow, make_config: MakeConfig, bob: User
) -> None:
    run = start_run(workflow)
    assert why(browser, "bob@example.com", run) == ["The user has no notification config."]

    Workflow.objects.filter(pk=workflow.pk).update(visibility=Visibility.PRIVATE)
    make_config(actor=bob)
    fail(run)

    assert why(browser, "BOB", run) == ["Not sent: its owner cannot see the workflow."]


def test_the_page_says_if_the_config_changed_after_the_event(
    browser: Browser, workflow: Workflow, make_config: MakeConfig
) -> None:
    config = make_config(filters={"tags": ["weekly"]})
    run = start_run(workflow)
    fail(run)
    services.update_config(config=config, filters={})

    (answer,) = why(browser, "ada", run)

    assert answer.startswith("Not sent: now it would be (the config was changed after the event, at ")


def test_a_folded_delivery_names_its_digest(browser: Browser, workflow: Workflow, make_config: MakeConfig) -> None:
    make_config(fold_repeats=True)
    fail(start_run(workflow))
    second = start_run(workflow)
    fail(second)
    complete(start_run(workflow))

    (answer,) = why(browser, "ada", second)

    digest = Delivery.objects.get(kind="digest")
    assert answer == f"Counted in the digest {digest.message_id}, which is suppressed."


def test_the_command_answers_the_same(
    workflow: Workflow, make_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    make_config(filters={"tags": ["weekly"]})
    run = start_run(workflow)
    fail(run)

    call_command("why_not_notified", "ada", str(run.pk))

    assert capsys.readouterr().out == "workflow.failed to On call: Not sent: filtered out by tags.\n"
    with pytest.raises(CommandError):
        call_command("why_not_notified", "nobody", str(run.pk))


def test_every_page_of_this_app_opens(
    browser: Browser, workflow: Workflow, make_config: MakeConfig, django_assert_max_num_queries: Any
) -> None:
    config = make_config(fold_repeats=True)
    MailConsent.objects.create(owner=config.owner, digest="0" * 64, mailbox="0" * 64, shown="a***@example.com")
    for _ in range(3):
        fail(start_run(workflow))
    deliver()

    for model in apps.get_app_config("notifications").get_models():
        if model.__name__ in {"Subscription", "Attempt"}:  # shown on the pages of what they belong to
            continue
        base = f"/admin/notifications/{model._meta.model_name}/"
        row = model._default_manager.order_by("-pk")[0]
        with django_assert_max_num_queries(25):
            assert browser.get(base).status_code == 200
        assert browser.get(f"{base}?q=1").status_code == 200
        assert browser.get(f"{base}{row.pk}/change/").status_code == 200
    assert browser.get(f"{LIST}add/").status_code == 200
    assert browser.get(f"{LIST}why").status_code == 200


def form(**changes: Any) -> dict[str, Any]:
    return {
        "name": "From the admin",
        "channel": "webhook",
        "owner": "",
        "target": "",
        "notification_types": ["workflow_failed"],
        "filters": "{}",
        "quiet_timezone": "UTC",
        "max_in_flight": "4",
        **changes,
    }


def test_the_admin_creates_and_changes_a_config_and_never_shows_its_target(
    browser: Browser, receiver: Receiver, ada: User
) -> None:
    target = f"{receiver.url}/a-secret-path"

    made = browser.post(f"{LIST}add/", form(target=target, owner=ada.pk))
    assert made.status_code == 302, made.context["adminform"].form.errors
    config = NotificationConfig.objects.get(name="From the admin")
    shown_once = browser.get(f"{LIST}{config.pk}/change/").content.decode()
    page = browser.get(f"{LIST}{config.pk}/change/").content.decode()
    changed = browser.post(f"{LIST}{config.pk}/change/", form(name="Renamed", owner=ada.pk))

    assert changed.status_code == 302, changed.context["adminform"].form.errors
    assert "a-secret-path" not in page
    assert config.secrets[0] in shown_once
    assert config.secrets[0] not in page
    config.refresh_from_db()
    assert (config.name, config.target, config.owner_id) == ("Renamed", target, ada.pk)
    assert config.notification_types == ["workflow_failed"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"target": "http://10.0.0.1/"}, "target"),
        ({"target": ""}, "target"),
        ({"filters": '{"workflow": [1]}'}, "filters"),
        ({"channel": "canary"}, "channel"),
    ],
)
def test_the_admin_refuses_what_the_api_refuses(
    browser: Browser, receiver: Receiver, change: dict[str, str], field: str
) -> None:
    answer = browser.post(f"{LIST}add/", form(**{"target": receiver.url, **change}))

    assert list(answer.context["adminform"].form.errors) == [field]
    assert not NotificationConfig.objects.filter(name="From the admin").exists()


def test_the_admin_finds_deliveries_by_user_and_run_and_redelivers_them(
    browser: Browser, workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    make_config()
    run = start_run(workflow)
    fail(run)
    fail(start_run(workflow))
    deliver()
    ledger = "/admin/notifications/delivery/"
    row = Delivery.objects.get(event__run=run)

    def found(term: str) -> int:
        return int(browser.get(ledger, {"q": term}).context["cl"].result_count)

    assert (found("ada@example.com"), found(str(run.pk)), found("nobody")) == (2, 1, 0)
    page = browser.get(f"{ledger}{row.pk}/change/")
    assert page.status_code == 200
    assert "delivered" in page.content.decode()
    browser.post(ledger, {"action": "redeliver", "_selected_action": [row.pk]})
    deliver()
    assert len(receiver.received) == 3


def test_actions_disable_enable_test_and_delete_configs(
    browser: Browser, make_config: MakeConfig, receiver: Receiver
) -> None:
    config = make_config()

    def act(name: str) -> None:
        answer = browser.post(LIST, {"action": name, "_selected_action": [config.pk]})
        assert answer.status_code == 302
        config.refresh_from_db()

    act("disable")
    assert (config.enabled, config.disabled_reason) == (False, "by root, in the admin")
    act("enable")
    assert config.enabled
    act("send_test")
    assert len(receiver.received) == 1
    act("remove")
    assert config.deleted_at is not None


def test_the_commands_deliver_and_reseal(
    workflow: Workflow, make_config: MakeConfig, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    make_config()
    fail(start_run(workflow))
    make_due()

    call_command("deliver_notifications", seconds=10)
    call_command("reseal_notifications")
    settings.SECRET_KEYS = ["another"]
    with pytest.raises(CommandError, match="Put that key back"):
        call_command("reseal_notifications")

    assert capsys.readouterr().out == "Deliveries: 1.\nEncrypted again: 2.\n"
