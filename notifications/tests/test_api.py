"""The API of notifications: strict input, masked output, and each user sees only their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from accounts.models import Role, User
from notifications.models import Delivery, NotificationConfig
from notifications.tests import receiver as behaviours
from notifications.tests.conftest import MakeConfig, deliver, fail, start_run
from notifications.tests.receiver import Receiver
from notifications.transports import webhook
from workflows.models import Visibility, Workflow

pytestmark = pytest.mark.django_db

CONFIGS = "/api/v1/notifications/configs"
DELIVERIES = "/api/v1/notifications/deliveries"
AsUser = Callable[[User], APIClient]


@pytest.fixture
def api(as_user: AsUser, ada: User) -> APIClient:
    return as_user(ada)


@pytest.fixture
def values(receiver: Receiver) -> dict[str, Any]:
    return {
        "name": "Our backend",
        "channel": "webhook",
        "url": f"{receiver.url}/hook",
        "notification_types": ["workflow_failed"],
    }


def test_a_config_for_a_workflow_that_the_user_cannot_see_is_refused(
    as_user: AsUser, root: User, ada: User, values: dict[str, Any], workflow: Workflow
) -> None:
    workflow.visibility, workflow.owner = Visibility.PRIVATE, root
    workflow.save()
    wish = {**values, "filters": {"workflows": [workflow.pk]}}

    answer = as_user(ada).post(CONFIGS, wish)

    message = f"There is no workflow {workflow.pk}, or you cannot see it."
    assert (answer.status_code, answer.json()["errors"]) == (400, {"filters.workflows": [message]})
    assert created() == 0
    assert as_user(root).post(CONFIGS, wish).status_code == 201


def created() -> int:
    return NotificationConfig.objects.exclude(channel="canary").count()


def test_the_answer_to_a_new_config_masks_target_and_secret(
    api: APIClient, values: dict[str, Any], receiver: Receiver, ada: User, workflow: Workflow
) -> None:
    filters = {"workflows": [workflow.pk], "tags": ["nightly"], "only_on_change": True}
    quiet = {"begin": "22:00:00", "end": "07:00:00", "timezone": "Europe/Berlin"}

    answer = api.post(CONFIGS, {**values, "filters": filters, "quiet_hours": quiet, "max_in_flight": 2})

    assert answer.status_code == 201, answer.json()
    body = answer.json()
    assert body.pop("new_secret").startswith("whsec_")
    for name in ("id", "created_at", "updated_at"):
        assert body.pop(name)
    assert body == {
        "name": "Our backend",
        "channel": "webhook",
        "webhook_url": None,
        "url": f"{receiver.url}/***",
        "recipients": None,
        "unconfirmed_recipients": [],
        "secret": "whsec_***",
        "owner_id": ada.pk,
        "for_everyone": False,
        "notification_types": ["workflow_failed"],
        "filters": filters,
        "enabled": True,
        "disabled_reason": "",
        "disabled_at": None,
        "fold_repeats": False,
        "quiet_hours": quiet,
        "max_in_flight": 2,
        "failures": 0,
        "paused_until": None,
    }
    assert "new_secret" not in api.get(f"{CONFIGS}/{NotificationConfig.objects.get(name='Our backend').pk}").json()


def test_a_given_secret_is_not_in_the_answer(api: APIClient, values: dict[str, Any]) -> None:
    secret = webhook.new_secret()

    answer = api.post(CONFIGS, {**values, "secret": secret})

    assert answer.status_code == 201
    assert "new_secret" not in answer.json()
    assert secret not in answer.content.decode()
    assert NotificationConfig.objects.get(pk=answer.json()["id"]).secrets == [secret]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"channel": "pigeon"}, "channel"),
        ({"channel": "canary"}, "channel"),
        ({"url": "http://10.0.0.1/"}, "url"),
        ({"url": "http://169.254.169.254/latest/meta-data"}, "url"),
        ({"url": "ftp://example.com/"}, "url"),
        ({"webhook_url": "https://example.com/"}, "webhook_url"),
        ({"channel": "slack"}, "url"),
        ({"notification_types": []}, "notification_types"),
        ({"notification_types": ["workflow_exploded"]}, "notification_types.0"),
        ({"filters": {"workflow": [1]}}, "filters.workflow"),
        ({"filters": {"workflows": ["x"]}}, "filters.workflows.0"),
        ({"filters": {"workflows": [10**30]}}, "filters.workflows.0"),
        ({"filters": {"workflows": [999]}}, "filters.workflows"),
        ({"quiet_hours": {"begin": "22:00", "end": "22:00"}}, "quiet_hours.end"),
        ({"quiet_hours": {"begin": "25:00", "end": "07:00"}}, "quiet_hours.begin"),
        ({"quiet_hours": {"begin": "22:00", "end": "07:00", "timezone": "Mars/Base"}}, "quiet_hours.timezone"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"secret": "short"}, "secret"),
        ({"secrets": []}, "secrets"),
        ({"enable": True}, "enable"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_created(
    api: APIClient, values: dict[str, Any], change: dict[str, Any], field: str
) -> None:
    answer = api.post(CONFIGS, {**values, **change})

    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])
    assert created() == 0


def test_each_channel_has_its_own_name_for_the_target(api: APIClient, receiver: Receiver) -> None:
    common = {"name": "x", "notification_types": ["workflow_failed"]}

    slack = api.post(CONFIGS, {**common, "channel": "slack", "webhook_url": f"{receiver.url}/services/T/B/X"})
    mail = api.post(CONFIGS, {**common, "channel": "email", "recipients": ["ada@example.com", "bob@example.com"]})

    assert slack.json()["webhook_url"] == f"{receiver.url}/***"
    assert (slack.json()["fold_repeats"], slack.json()["secret"]) == (True, None)
    assert mail.json()["recipients"] == ["a***@example.com", "b***@example.com"]


def test_only_the_fields_that_are_sent_change(api: APIClient, make_config: MakeConfig) -> None:
    config = make_config(filters={"tags": ["nightly"]})
    secrets = config.secrets

    answer = api.patch(f"{CONFIGS}/{config.pk}", {"name": "Renamed", "notification_types": ["workflow_completed"]})

    assert answer.status_code == 200
    assert (answer.json()["name"], answer.json()["notification_types"]) == ("Renamed", ["workflow_completed"])
    assert answer.json()["filters"] == {"tags": ["nightly"]}
    config.refresh_from_db()
    assert config.secrets == secrets


def test_after_a_change_the_last_secret_goes_on_signing(api: APIClient, make_config: MakeConfig) -> None:
    config = make_config()
    (old,) = config.secrets
    new = webhook.new_secret()

    assert api.patch(f"{CONFIGS}/{config.pk}", {"secret": new}).status_code == 200
    config.refresh_from_db()
    assert config.secrets == [new, old]
    rotated = api.post(f"{CONFIGS}/{config.pk}/rotate-secret").json()["new_secret"]
    config.refresh_from_db()
    assert config.secrets == [rotated, new]
    assert api.patch(f"{CONFIGS}/{config.pk}", {"secrets": [rotated]}).status_code == 200
    config.refresh_from_db()
    assert config.secrets == [rotated]


@pytest.mark.parametrize(
    ("change", "same"),
    [({"channel": "slack"}, {"channel": "webhook"}), ({"for_everyone": True}, {"for_everyone": False})],
)
def test_the_channel_and_the_owner_of_a_config_cannot_change(
    api: APIClient, make_config: MakeConfig, change: dict[str, Any], same: dict[str, Any]
) -> None:
    config = make_config()

    answer = api.patch(f"{CONFIGS}/{config.pk}", change)

    assert (answer.status_code, list(answer.json()["errors"])) == (400, list(change))
    assert api.patch(f"{CONFIGS}/{config.pk}", same).status_code == 200


def test_a_test_is_sent_at_once_and_its_answer_is_shown(
    api: APIClient, make_config: MakeConfig, receiver: Receiver
) -> None:
    config = make_config()

    good = api.post(f"{CONFIGS}/{config.pk}/test")
    receiver.otherwise = behaviours.answer(500, b"broken")
    bad = api.post(f"{CONFIGS}/{config.pk}/test")

    assert good.status_code == 200
    assert (good.json()["kind"], good.json()["status"]) == ("test", "delivered")
    assert json.loads(receiver.received[0].body)["type"] == "notification.test"
    assert (bad.json()["status"], bad.json()["reason"]) == ("failed", "HTTP 500")
    (attempt,) = bad.json()["attempts"]
    assert (attempt["status_code"], attempt["response_excerpt"]) == (500, "broken")


def test_a_disabled_config_sends_no_test_until_it_is_enabled(
    api: APIClient, make_config: MakeConfig, receiver: Receiver
) -> None:
    config = make_config()

    off = api.post(f"{CONFIGS}/{config.pk}/disable", {"reason": "on holiday"})
    refused = api.post(f"{CONFIGS}/{config.pk}/test")
    on = api.post(f"{CONFIGS}/{config.pk}/enable")

    assert (off.json()["enabled"], off.json()["disabled_reason"]) == (False, "on holiday")
    assert off.json()["disabled_at"] is not None
    assert (refused.status_code, refused.json()["code"]) == (409, "config_disabled")
    assert receiver.received == []
    assert (on.json()["enabled"], on.json()["disabled_reason"], on.json()["disabled_at"]) == (True, "", None)


def test_a_deleted_config_is_gone_and_its_ledger_stays(
    api: APIClient, make_config: MakeConfig, workflow: Workflow
) -> None:
    config = make_config()
    fail(start_run(workflow))

    assert api.delete(f"{CONFIGS}/{config.pk}").status_code == 204

    assert api.get(f"{CONFIGS}/{config.pk}").status_code == 404
    row = Delivery.objects.get()
    assert (row.status, row.reason) == ("suppressed", "the config was disabled: it was deleted")
    config.refresh_from_db()
    assert (config.sealed_target, config.sealed_secrets) == ("", "")
    fail(start_run(workflow))
    assert Delivery.objects.count() == 1


# --- Access ----------------------------------------------------------------------------------------------


def test_configs_and_deliveries_of_others_are_not_found(
    as_user: AsUser, make_config: MakeConfig, bob: User, workflow: Workflow, receiver: Receiver
) -> None:
    config = make_config()
    fail(start_run(workflow))
    row = Delivery.objects.get()
    stranger = as_user(bob)
    range_of_it = {"config_id": config.pk, "since": "2020-01-01T00:00:00Z"}

    answers = [
        stranger.get(f"{CONFIGS}/{config.pk}"),
        stranger.patch(f"{CONFIGS}/{config.pk}", {"name": "mine"}),
        stranger.delete(f"{CONFIGS}/{config.pk}"),
        *(stranger.post(f"{CONFIGS}/{config.pk}/{do}") for do in ("test", "enable", "disable", "rotate-secret")),
        stranger.get(f"{DELIVERIES}/{row.pk}"),
        stranger.post(f"{DELIVERIES}/{row.pk}/redeliver"),
        stranger.post(f"{DELIVERIES}/redeliver", range_of_it),
    ]

    assert [answer.status_code for answer in answers] == [404] * 9 + [400]
    assert stranger.get(CONFIGS).json()["results"] == []
    assert stranger.get(DELIVERIES).json()["results"] == []
    assert receiver.received == []
    config.refresh_from_db()
    assert (config.name, config.enabled) == ("On call", True)


def test_configs_for_everyone_belong_to_the_admins(
    as_user: AsUser, ada: User, root: User, values: dict[str, Any], workflow: Workflow
) -> None:
    for_all = {**values, "for_everyone": True}

    refused = as_user(ada).post(CONFIGS, for_all)
    admin = as_user(root)
    created = admin.post(CONFIGS, for_all)

    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    assert (created.json()["for_everyone"], created.json()["owner_id"]) == (True, None)
    assert as_user(ada).get(f"{CONFIGS}/{created.json()['id']}").status_code == 404
    assert admin.get(f"{CONFIGS}/{created.json()['id']}").status_code == 200


def test_viewers_may_read_and_strangers_may_not(
    as_user: AsUser, values: dict[str, Any], django_user_model: type[User]
) -> None:
    vera = django_user_model.objects.create_user("vera", "vera@example.com", "a long password", role=Role.VIEWER)

    assert as_user(vera).get(CONFIGS).status_code == 200
    assert as_user(vera).post(CONFIGS, values).status_code == 403
    assert APIClient().get(CONFIGS).status_code == 401
    assert APIClient().get(DELIVERIES).status_code == 401
    assert APIClient().get("/api/v1/notifications/types").status_code == 401
    assert created() == 0


# --- Types and the ledger ---------------------------------------------------------------------------------


def test_the_types_are_those_of_the_catalogue(api: APIClient) -> None:
    types = {row["name"]: row for row in api.get("/api/v1/notifications/types").json()["results"]}

    assert types["workflow_failed"]["event"] == "workflow.failed"
    assert types["workflow_failed"]["description"].startswith("The run has failed")
    assert "system_airflow_down" in types


def test_the_ledger_is_filtered_by_config_run_and_status(
    api: APIClient, make_config: MakeConfig, workflow: Workflow, receiver: Receiver
) -> None:
    first, second = make_config(name="First"), make_config(name="Second", target=f"{receiver.url}/second")
    receiver.at["/second"] = behaviours.answer(500, b"broken")
    runs = [start_run(workflow), start_run(workflow)]
    for run in runs:
        fail(run)
    deliver()

    def found(query: str) -> list[tuple[str, str, str]]:
        rows = api.get(f"{DELIVERIES}?{query}").json()["results"]
        return [(row["config_name"], row["run_id"], row["status"]) for row in rows]

    r1, r2 = (str(run.pk) for run in runs)
    assert len(found("")) == 4
    assert sorted(found(f"config={first.pk}")) == sorted([("First", r1, "delivered"), ("First", r2, "delivered")])
    assert sorted(found(f"run={r1}")) == [("First", r1, "delivered"), ("Second", r1, "pending")]
    assert len(found(f"config={second.pk}&status=pending&status=failed")) == 2
    assert found("created_before=2020-01-01T00:00:00Z") == []
    tried = [row for row in api.get(f"{DELIVERIES}?config={second.pk}").json()["results"] if row["attempts"]]
    assert [(a["number"], a["status_code"], a["response_excerpt"]) for a in tried[0]["attempts"]] == [
        (1, 500, "broken")
    ]


def test_the_ledger_costs_a_constant_number_of_queries(
    api: APIClient,
    make_config: MakeConfig,
    workflow: Workflow,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    make_config()
    for _ in range(5):
        fail(start_run(workflow))

    with django_assert_num_queries(3):  # the token, the page, the attempts
        assert len(api.get(DELIVERIES).json()["results"]) == 5
    with django_assert_num_queries(4):  # the token, the count, the page, the types
        api.get(CONFIGS)


def test_one_delivery_or_a_range_is_redelivered(
    api: APIClient, make_config: MakeConfig, workflow: Workflow, receiver: Receiver
) -> None:
    config = make_config()
    for _ in range(2):
        fail(start_run(workflow))
    deliver()
    first = Delivery.objects.order_by("id")[0]

    one = api.post(f"{DELIVERIES}/{first.pk}/redeliver")
    again = api.post(f"{DELIVERIES}/{first.pk}/redeliver")
    since = {"config_id": config.pk, "since": "2020-01-01T00:00:00Z", "status": ["delivered"]}
    many = api.post(f"{DELIVERIES}/redeliver", since)
    deliver()

    assert (one.status_code, one.json()["status"]) == (200, "pending")
    assert (again.status_code, again.json()["code"]) == (409, "still_owed")
    assert many.json() == {"redelivered": 1}
    assert len(receiver.received) == 4
    assert len({request.headers["webhook-id"] for request in receiver.received}) == 2
