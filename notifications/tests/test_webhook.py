"""Webhooks by the standard of https://www.standardwebhooks.com, verified by its library."""

from __future__ import annotations

import pytest
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from notifications import services
from notifications.models import Delivery, NotificationConfig
from notifications.outgoing import Client
from notifications.tests import receiver as behaviours
from notifications.tests.conftest import MakeConfig, deliver, fail, make_due, start_run
from notifications.tests.receiver import Received, Receiver
from notifications.transports import webhook
from notifications.transports.base import InvalidTargetError
from rest.errors import InvalidInputError
from workflows.models import Workflow

pytestmark = pytest.mark.django_db


def verified(request: Received, secret: str) -> bool:
    try:
        Verifier(secret).verify(request.body, request.headers)
    except WebhookVerificationError:
        return False
    return True


def test_the_official_library_accepts_the_signature_and_refuses_a_changed_body(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    config = make_config()
    fail(start_run(workflow))

    deliver()

    (request,) = receiver.received
    assert request.headers["Content-Type"] == "application/json"
    assert verified(request, config.secrets[0])
    assert not verified(Received("POST", "/", request.headers, request.body + b" "), config.secrets[0])
    assert not verified(request, webhook.new_secret())


def test_a_rotated_secret_is_valid_until_the_next_rotation(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    config = make_config()
    first = config.secrets[0]
    second = services.rotate_secret(config=config)
    fail(start_run(workflow))
    deliver()
    third = services.rotate_secret(config=NotificationConfig.objects.get(pk=config.pk))
    fail(start_run(workflow))
    deliver()

    assert [[verified(r, secret) for secret in (first, second, third)] for r in receiver.received] == [
        [True, True, False],
        [False, True, True],
    ]


def test_each_attempt_has_the_same_id_and_its_own_signature(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    config = make_config()
    receiver.behaviours.append(behaviours.answer(500))
    fail(start_run(workflow))
    deliver()
    make_due()
    deliver()

    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == Delivery.objects.get().message_id
    assert first.body == second.body
    assert verified(first, config.secrets[0])
    assert verified(second, config.secrets[0])


def test_a_given_secret_is_used_and_a_bad_one_is_refused(make_config: MakeConfig) -> None:
    given = webhook.new_secret()

    assert make_config(secrets=[given]).secrets == [given]
    for bad in ("whsec_short", "not base64!", "whsec_" + "QQ==" * 1):
        with pytest.raises(InvalidInputError) as error:
            make_config(secrets=[bad])
        assert list(error.value.errors) == ["secrets"]
    assert NotificationConfig.objects.filter(channel="webhook").count() == 1


def test_target_and_secrets_are_encrypted_in_the_database_and_masked_outside(make_config: MakeConfig) -> None:
    config = make_config()
    row = NotificationConfig.objects.filter(pk=config.pk).values().get()

    assert config.target.endswith("/hook")
    assert config.target_hint == config.target.removesuffix("hook") + "***"
    stored = repr(row)
    assert "/hook" not in stored
    assert config.secrets[0] not in stored
    assert config.secrets[0].removeprefix("whsec_") not in stored


def test_keys_are_rotated_without_losing_what_they_encrypted(make_config: MakeConfig, settings: object) -> None:
    config = make_config()
    target, secrets = config.target, config.secrets
    old = settings.SECRET_KEYS  # type: ignore[attr-defined]

    settings.SECRET_KEYS = ["a new key", *old]  # type: ignore[attr-defined]
    assert config.target == target
    services.reseal()
    settings.SECRET_KEYS = ["a new key"]  # type: ignore[attr-defined]

    config.refresh_from_db()
    assert (config.target, config.secrets) == (target, secrets)


def test_a_private_target_is_refused_when_it_is_saved(make_config: MakeConfig, settings: object) -> None:
    settings.NOTIFICATION_ALLOWED_NETWORKS = ()  # type: ignore[attr-defined]

    with pytest.raises(InvalidInputError) as error:
        make_config()

    (message,) = error.value.errors["url"]
    assert "127.0.0.1 has no public address" in message
    assert NotificationConfig.objects.filter(channel="webhook").count() == 0


def test_a_private_target_is_refused_when_it_is_sent(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver, settings: object
) -> None:
    make_config()
    settings.NOTIFICATION_ALLOWED_NETWORKS = ()  # type: ignore[attr-defined]
    fail(start_run(workflow))

    deliver()

    assert Delivery.objects.get().reason.startswith("refused: 127.0.0.1 has no public address")
    assert receiver.received == []


@pytest.mark.parametrize(
    ("status", "result"),
    [
        *((status, "pending") for status in (102, 103)),
        *((status, "delivered") for status in (200, 201, 202, 204, 206, 299)),
        *((status, "pending") for status in (300, 301, 302, 304, 307, 308)),
        *((status, "pending") for status in (400, 401, 403, 404, 408, 409, 413, 422, 425, 429)),
        (410, "failed"),
        *((status, "pending") for status in (500, 502, 503, 504, 599, 600, 999)),
    ],
)
def test_only_a_2xx_is_an_acceptance_and_only_410_is_final(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver, status: int, result: str
) -> None:
    config = make_config()
    receiver.otherwise = behaviours.answer(status)
    fail(start_run(workflow))

    deliver()

    config.refresh_from_db()
    row = Delivery.objects.get()
    assert (row.status, config.enabled, row.attempts.get().status_code) == (result, status != 410, status)
    assert row.reason.startswith(f"HTTP {status}") or result == "delivered"


def test_a_url_beyond_ascii_is_stored_percent_encoded_and_receives(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    config = make_config(target=f"{receiver.url}/hooks/gr\u00f6\u00dfe?f\u00fcr=uns")
    fail(start_run(workflow))

    deliver()

    assert config.target == f"{receiver.url}/hooks/gr%C3%B6%C3%9Fe?f%C3%BCr=uns"
    assert [request.path for request in receiver.received] == ["/hooks/gr%C3%B6%C3%9Fe?f%C3%BCr=uns"]
    assert Delivery.objects.get().status == "delivered"


def test_a_url_beyond_ascii_that_was_stored_earlier_receives(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    config = make_config()
    config.target = f"{receiver.url}/hooks/gr\u00f6\u00dfe"
    config.save()
    fail(start_run(workflow))

    deliver()

    assert [request.path for request in receiver.received] == ["/hooks/gr%C3%B6%C3%9Fe"]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("https://stra\u00dfe.example/hook", "write its host as xn--"),
        ("https://example.com/half-\ud83d", "cannot be written in ASCII"),
        ("https://127.0.0.1/" + "\u00f6" * 400, "at most 2000 characters"),
    ],
)
def test_a_url_without_a_form_in_ascii_is_refused_with_its_field(
    make_config: MakeConfig, target: str, said: str
) -> None:
    with pytest.raises(InvalidInputError) as error:
        make_config(target=target)

    (message,) = error.value.errors["url"]
    assert said in message
    assert not NotificationConfig.objects.filter(channel="webhook").exists()


def test_a_target_that_is_not_a_url_is_refused() -> None:
    for target in (7, None, "x" * 2001):
        with pytest.raises(InvalidTargetError):
            webhook.Webhook().clean(target, Client())
