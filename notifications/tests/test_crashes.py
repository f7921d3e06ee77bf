"""A worker is killed with -9 between any two steps: each delivery is still made, under one id, and is one row."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker, Settings

from notifications.apprise_workers import ROOT
from notifications.tests.receiver import Receiver, running
from notifications.tests.test_email import Mailbox, mailbox
from runner.testing import ended_by_its_input

__all__ = ["mailbox"]


class Victim:
    """Gives orders to `notifications.tests.victim`; returns how the process of each order ended, and its output."""

    def __init__(self, home: Path) -> None:
        environment = {
            **os.environ,
            "SVOPS_HOME": str(home),
            "DATABASE_URL": f"sqlite:///{home}/db.sqlite3",
            "NOTIFICATION_ALLOWED_NETWORKS": "127.0.0.0/8",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "notifications.tests.victim"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def order(self, *words: str) -> tuple[int, str]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()
        code, _, said = self.process.stdout.readline().strip().partition(" ")
        return int(code), said

    def ledger(self) -> dict[str, Any]:
        code, said = self.order("recover")
        assert code == 0
        found: dict[str, Any] = json.loads(said)
        return found

    def end(self) -> None:
        ended_by_its_input(self.process)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running(Receiver()) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[Victim]:
    home = tmp_path_factory.mktemp("crashes")
    victim = Victim(home)
    if connection.vendor == "sqlite":
        # A copy of the migrated database: the victim would take seconds to migrate its own.
        with django_db_blocker.unblock(), closing(sqlite3.connect(home / "db.sqlite3")) as copy:
            connection.ensure_connection()
            connection.connection.backup(copy)
    assert victim.order("prepare")[0] == 0
    yield victim
    victim.end()


@pytest.fixture
def victim(prepared: Victim) -> Victim:
    assert prepared.order("empty")[0] == 0
    return prepared


def port(receiver: Receiver) -> str:
    return receiver.url.rpartition(":")[2]


@pytest.mark.parametrize(
    ("where", "sent_before", "outcomes"),
    [
        ("workflows.eventlog.publication.publish", 0, ["delivered"]),
        ("workflows.eventlog.publication.publish:after", 0, ["delivered"]),
        ("notifications.delivery.claim", 0, ["delivered"]),
        ("notifications.claims._lease:after", 0, ["delivered"]),
        ("notifications.delivery.claim:after", 0, ["lost", "delivered"]),
        ("notifications.delivery.prepare:after", 0, ["lost", "delivered"]),
        ("notifications.delivery.attempt", 0, ["lost", "delivered"]),
        ("notifications.delivery.attempt:after", 1, ["lost", "delivered"]),
        ("notifications.delivery.settle", 1, ["lost", "delivered"]),
        ("notifications.settlement._record:after", 1, ["lost", "delivered"]),
        ("notifications.settlement._move:after", 1, ["lost", "delivered"]),
        ("notifications.delivery.settle:after", 1, ["delivered"]),
    ],
)
def test_a_worker_killed_at_any_step_loses_no_delivery_and_doubles_no_row(
    victim: Victim, receiver: Receiver, where: str, sent_before: int, outcomes: list[str]
) -> None:
    assert victim.order("die", port(receiver), where) == (-signal.SIGKILL, "")
    assert len(receiver.received) == sent_before
    before = Counter(request.headers["webhook-id"] for request in receiver.received)

    found = victim.ledger()

    rows = found["deliveries"]
    assert len(rows) == found["events"]
    assert {(row["status"], row["leased"]) for row in rows} == {("delivered", False)}
    assert rows[0]["outcomes"] == outcomes
    times = Counter(request.headers["webhook-id"] for request in receiver.received)
    assert set(times) == {row["message_id"] for row in rows}
    repeated = before if outcomes[0] == "lost" else Counter()
    assert times == Counter(row["message_id"] for row in rows) + repeated


def test_killed_before_the_event_is_committed_neither_it_nor_its_delivery_exists(
    victim: Victim, receiver: Receiver
) -> None:
    where = "notifications.sinks.create_deliveries:after"
    assert victim.order("die", port(receiver), where) == (-signal.SIGKILL, "")

    assert victim.ledger() == {"events": 0, "deliveries": []}
    assert receiver.received == []


@pytest.mark.parametrize(
    ("where", "mails"),
    [
        ("notifications.services.configs._record", 0),  # nothing is committed
        ("notifications.link_mails.send_due", 1),
        ("notifications.link_mails._lease", 1),
        ("notifications.link_mails._lease:after", 1),
        ("notifications.link_mails._message", 1),
        ("notifications.link_mails._settle", 2),  # the mail server had it, which nobody knows
        ("notifications.link_mails._settle:after", 1),
    ],
)
def test_a_process_killed_at_any_step_loses_no_link_to_a_recipient(
    victim: Victim, mailbox: Mailbox, settings: Settings, where: str, mails: int
) -> None:
    """Before: a process that ended between the commit and the mail left a config that asked nobody."""
    port = str(settings.EMAIL_PORT)
    assert victim.order("ask", port, where) == (-signal.SIGKILL, "")

    assert victim.order("ask_again", port) == (0, "0")

    assert mailbox.recipients == [["stranger@elsewhere.example"]] * mails
