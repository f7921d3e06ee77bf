"""Apprise, in a process in which nothing connects but where the policy permits."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from notifications.apprise_process import Guard
from notifications.models import Attempt, Delivery, NotificationConfig
from notifications.outgoing import Client, Policy
from notifications.tests import receiver as behaviours
from notifications.tests.conftest import MakeConfig, deliver, fail, start_run
from notifications.tests.receiver import Receiver
from notifications.transports.apprise import ROOT, Apprise
from notifications.transports.base import InvalidTargetError
from workflows.models import Workflow

pytestmark = pytest.mark.django_db


@pytest.fixture
def config(make_config: MakeConfig, receiver: Receiver) -> NotificationConfig:
    return make_config(channel="apprise", target=receiver.url.replace("http://", "json://") + "/hook")


def test_a_failure_arrives_at_a_service_of_apprise(
    workflow: Workflow, config: NotificationConfig, receiver: Receiver
) -> None:
    fail(start_run(workflow))

    deliver()

    (request,) = receiver.received
    body = json.loads(request.body)
    assert (body["title"], body["type"]) == ("Nightly figures has failed", "failure")
    assert "Failed tasks: load" in body["message"]
    assert (Delivery.objects.get().status, config.target_hint) == ("delivered", "json://***")


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (behaviours.answer(500), "Apprise could not deliver it."),
        (behaviours.answer(302, location="http://127.0.0.1:1/"), "Apprise could not deliver it."),
    ],
)
def test_a_service_that_refuses_is_asked_again_and_no_redirect_followed(
    workflow: Workflow,
    config: NotificationConfig,
    receiver: Receiver,
    behaviour: behaviours.Behaviour,
    error: str,
) -> None:
    receiver.otherwise = behaviour
    fail(start_run(workflow))

    deliver()

    assert (Delivery.objects.get().status, Attempt.objects.get().error) == ("pending", error)


@pytest.mark.parametrize("behaviour", [behaviours.endless_body, behaviours.dripping_headers])
def test_a_service_without_an_end_is_ended_with_its_process(
    workflow: Workflow, config: NotificationConfig, receiver: Receiver, settings: Any, behaviour: behaviours.Behaviour
) -> None:
    settings.NOTIFICATION_TIMEOUT = 4
    receiver.otherwise = behaviour
    fail(start_run(workflow))

    deliver()

    assert Delivery.objects.get().status == "pending"
    assert Attempt.objects.get().outcome == "failed"


@pytest.mark.parametrize(
    "url",
    [
        "json://127.0.0.1/",
        "json://localhost/",
        "jsons://[::1]/",
        "json://2130706433/",
        "xml://[::ffff:127.0.0.1]/",
        "mailto://user:password@example.com?smtp=127.0.0.1",
        "dbus://",
        "syslog://",
        "nosuchservice://x",
        "not a url",
    ],
)
def test_private_targets_and_services_of_this_machine_are_refused_at_save(url: str) -> None:
    with pytest.raises(InvalidTargetError):
        Apprise().clean(url, Client(timeout=30))


def test_what_leads_somewhere_private_is_refused_when_it_is_sent(
    workflow: Workflow, config: NotificationConfig, receiver: Receiver, settings: Any
) -> None:
    settings.NOTIFICATION_ALLOWED_NETWORKS = ()
    fail(start_run(workflow))

    deliver()

    assert Attempt.objects.get().error.startswith("refused: it leads to the address 127.0.0.1, which is not public")
    assert receiver.received == []


GUARDED = """
import socket, subprocess, sys
from notifications.apprise_process import Guard
from notifications.outgoing import Policy
guard = Guard(Policy())
sys.addaudithook(guard)
def tried(what):
    try:
        what()
    except PermissionError:
        return "refused"
    except OSError:
        return "went out"
    return "done"
def connect(address, family=socket.AF_INET, kind=socket.SOCK_STREAM):
    sock = socket.socket(family, kind)
    sock.settimeout(0.1)
    sock.connect(address)
print(tried(lambda: connect(("127.0.0.1", 9))))
print(tried(lambda: connect(("localhost", 9))))
print(tried(lambda: connect(("::ffff:127.0.0.1", 9), socket.AF_INET6)))
print(tried(lambda: connect("/tmp/a-socket", socket.AF_UNIX)))
print(tried(lambda: socket.create_connection(("localhost", 9))))
print(tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9))))
print(tried(lambda: subprocess.run(["true"])))
"""


def test_no_python_code_in_that_process_gets_past_the_guard() -> None:
    done = subprocess.run([sys.executable, "-c", GUARDED], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.split("\n")[:-1] == ["refused"] * 7


def test_the_guard_lets_public_addresses_through() -> None:
    guard = Guard(Policy())

    guard("socket.connect", (None, ("8.8.8.8", 443)))
    guard("socket.connect", (None, ("2606:4700::1111", 443, 0, 0)))

    assert guard.refused == ""
