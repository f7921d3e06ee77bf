"""Webhooks as https://www.standardwebhooks.com has them, verified by its own library."""

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
from svops.errors import InvalidInputError
from workflows.models import Workflow

pytestmark = pytest.mark.django_db


def verified(request: Received, secret: str) -> bool:
    try:
        Verifier(secret).verify(request.body, request.headers)
    except WebhookVerificationError:
        return False
    return True


def test_the_official_library_accepts_the_signature_and_no_changed_body(
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


def test_while_a_secret_is_replaced_both_are_good_and_after_the_next_replacement_the_oldest_is_not(
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


def test_each_attempt_has_the_same_id_and_a_signature_of_its_own_time(
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


def test_a_given_secret_is_taken_and_a_bad_one_refused(make_config: MakeConfig) -> None:
    given = webhook.new_secret()

    assert make_config(secrets=[given]).secrets == [given]
    for bad in ("whsec_short", "not base64!", "whsec_" + "QQ==" * 1):
        with pytest.raises(InvalidInputError) as error:
            make_config(secrets=[bad])
        assert list(error.value.errors) == ["secrets"]
    assert NotificationConfig.objects.filter(channel="webhook").count() == 1


def test_target_and_secrets_are_not_readable_in_the_database_and_masked_outside(make_config: MakeConfig) -> None:
    config = make_config()
    row = NotificationConfig.objects.filter(pk=config.pk).values().get()

    assert config.target.endswith("/hook")
    assert config.target_hint == config.target.removesuffix("hook") + "***"
    stored = repr(row)
    assert "/hook" not in stored
    assert config.secrets[0] not in stored
    assert config.secrets[0].removeprefix("whsec_") not in stored


def test_keys_are_rotated_without_losing_what_they_sealed(make_config: MakeConfig, settings: object) -> None:
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
    assert "leads to the address 127.0.0.1, which is not public" in message
    assert NotificationConfig.objects.filter(channel="webhook").count() == 0


def test_and_again_when_it_is_to_be_sent(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver, settings: object
) -> None:
    make_config()
    settings.NOTIFICATION_ALLOWED_NETWORKS = ()  # type: ignore[attr-defined]
    fail(start_run(workflow))

    deliver()

    assert Delivery.objects.get().reason.startswith("refused: 127.0.0.1 leads to the address 127.0.0.1")
    assert receiver.received == []


def test_something_that_is_no_url_is_refused() -> None:
    for target in (7, None, "x" * 2001):
        with pytest.raises(InvalidTargetError):
            webhook.Webhook().clean(target, Client())
