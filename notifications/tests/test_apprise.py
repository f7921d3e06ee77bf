"""Apprise runs in a process that connects only where the policy permits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from notifications import apprise_process
from notifications.addresses import Policy
from notifications.apprise_process import Guard
from notifications.apprise_workers import ROOT, WORKERS
from notifications.models import Attempt, Delivery, NotificationConfig
from notifications.outgoing import Client
from notifications.tests import receiver as behaviours
from notifications.tests.conftest import MakeConfig, deliver, fail, start_run
from notifications.tests.receiver import Receiver
from notifications.transports.apprise import Apprise
from notifications.transports.base import InvalidTargetError
from workflows.models import Workflow

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _patient(settings: Any) -> Iterator[None]:
    """Give a process that starts slowly the time to answer."""
    settings.NOTIFICATION_TIMEOUT = 60
    yield
    WORKERS.close()


@pytest.fixture
def config(make_config: MakeConfig, receiver: Receiver) -> NotificationConfig:
    return apprise_config(make_config, receiver, "/hook")


def apprise_config(make_config: MakeConfig, receiver: Receiver, path: str) -> NotificationConfig:
    """Make a config without the process that checks its target: that takes a second each time."""
    config = make_config()
    config.channel, config.target = "apprise", receiver.url.replace("http://", "json://") + path
    config.save()
    return config


def test_a_failure_arrives_at_a_service_of_apprise(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    target = receiver.url.replace("http://", "json://") + "/hook"
    config = make_config(channel="apprise", target=target)
    fail(start_run(workflow))

    deliver()

    (request,) = receiver.received
    body = json.loads(request.body)
    assert (body["title"], body["type"]) == ("Nightly figures has failed", "failure")
    assert "Failed tasks: load" in body["message"]
    assert (Delivery.objects.get().status, config.target_hint) == ("delivered", "json://***")


def test_services_that_refuse_or_redirect_are_retried_and_redirects_are_not_followed(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    receiver.at["/refuses"] = behaviours.answer(500)
    receiver.at["/redirects"] = behaviours.answer(302, location=f"{receiver.url}/elsewhere")
    for path in ("/refuses", "/redirects"):
        apprise_config(make_config, receiver, path)
    fail(start_run(workflow))

    deliver()

    assert [row.status for row in Delivery.objects.all()] == ["pending"] * 2
    assert [attempt.error for attempt in Attempt.objects.all()] == ["Apprise could not deliver it."] * 2
    assert sorted(request.path for request in receiver.received) == ["/redirects", "/refuses"]


SERVICE = """
import json, sys
import apprise
from notifications import apprise_process
class Service:
    def notify(self, **message):
        {}
apprise.Apprise.instantiate = lambda *args, **options: Service()
apprise_process.main()
"""


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("return True", ""),
        ("print('sent'); return True", ""),
        ("return False", "Apprise could not deliver it."),
        ("return None", "Apprise could not deliver it."),
    ],
)
def test_only_true_is_an_acceptance_whatever_the_service_prints(body: str, error: str) -> None:
    order = {"do": "send", "url": "json://example.com", "title": "t", "text": "x", "type": "info", "allowed": []}
    command = [sys.executable, "-c", SERVICE.format(body)]

    done = subprocess.run(command, cwd=ROOT, input=json.dumps(order), capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == {"error": error, "permanent": False}


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("echo 'RuntimeError: json://a-secret' >&2; exit 1", "Apprise ended without an answer: RuntimeError"),
        ("kill -9 $$", "Apprise ended without an answer: it was killed"),
        ("echo hello", "Apprise ended without an answer"),
        (None, "the process of Apprise does not start: No such file or directory"),
    ],
)
def test_a_process_that_ends_in_another_way_is_tried_again_with_the_reason(
    workflow: Workflow,
    config: NotificationConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str | None,
    error: str,
) -> None:
    if program:
        (tmp_path / "python").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    fail(start_run(workflow))

    deliver()

    assert (Delivery.objects.get().status, Attempt.objects.get().error) == ("pending", error)


def test_endless_answers_end_with_their_processes(
    workflow: Workflow, make_config: MakeConfig, receiver: Receiver, settings: Any
) -> None:
    settings.NOTIFICATION_TIMEOUT = 4
    receiver.at = {"/body": behaviours.endless_body, "/headers": behaviours.dripping_headers}
    for path in receiver.at:
        apprise_config(make_config, receiver, path)
    fail(start_run(workflow))

    deliver()

    assert [row.status for row in Delivery.objects.all()] == ["pending"] * 2
    assert [attempt.outcome for attempt in Attempt.objects.all()] == ["failed"] * 2


REFUSED = [
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
]


def test_a_private_target_is_refused_at_save() -> None:
    with pytest.raises(InvalidTargetError, match="has no public address"):
        Apprise().clean(REFUSED[0], Client(timeout=60))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what Apprise imports
@pytest.mark.parametrize("url", REFUSED)
def test_the_process_refuses_private_targets_and_local_services(url: str) -> None:
    assert apprise_process.answer({"do": "check", "url": url, "allowed": []}, Guard(Policy()))["error"]


def test_a_private_address_is_refused_when_it_is_sent(
    workflow: Workflow, config: NotificationConfig, receiver: Receiver, settings: Any
) -> None:
    settings.NOTIFICATION_ALLOWED_NETWORKS = ()
    fail(start_run(workflow))

    deliver()

    assert Attempt.objects.get().error.startswith("refused: it has no public address")
    assert receiver.received == []


GUARDED = """
import socket, subprocess, sys
from notifications.addresses import Policy
from notifications.apprise_process import Guard
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
