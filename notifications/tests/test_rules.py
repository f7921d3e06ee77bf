"""Filters, quiet hours and visibility."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from accounts.models import Role, User
from notifications import facts as facts_of
from notifications import rules
from notifications.models import NotificationConfig
from notifications.rules import Facts
from notifications.tests.conftest import complete, fail, start_run
from workflows.eventlog.audience import Audience
from workflows.models import Workflow

FAILED = frozenset({"workflow.failed"})
FACTS = Facts(
    type="workflow.failed",
    workflow_id=3,
    user_id=7,
    data={"state": "failed", "duration_s": 60.0},
    audience=Audience(everyone=True, user_ids=frozenset()),
    tags=frozenset({"nightly"}),
    changed=True,
)


def owned(**fields: Any) -> NotificationConfig:
    return NotificationConfig(pk=1, owner=User(pk=7, role=Role.USER, is_active=True), **fields)


@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        ({}, ""),
        ({"workflows": [3, 4]}, ""),
        ({"workflows": [4]}, "filtered out by workflows"),
        ({"tags": ["nightly", "x"]}, ""),
        ({"tags": ["x"]}, "filtered out by tags"),
        ({"states": ["failed"]}, ""),
        ({"states": ["success"]}, "filtered out by states"),
        ({"users": [7]}, ""),
        ({"users": [8]}, "filtered out by users"),
        ({"duration_over_s": 59.9}, ""),
        ({"duration_over_s": 60}, "filtered out by duration_over_s"),
        ({"only_on_change": True}, ""),
        ({"workflows": [3], "tags": ["x"]}, "filtered out by tags"),
        ({"workflows": [], "tags": [], "states": [], "users": []}, ""),
    ],
)
def test_an_event_must_pass_each_filter(filters: dict[str, Any], reason: str) -> None:
    assert rules.why_not(owned(filters=filters), FAILED, FACTS) == reason


def test_an_unknown_duration_does_not_pass_and_an_event_without_duration_does() -> None:
    config = owned(filters={"duration_over_s": 1})

    assert rules.why_not(config, FAILED, replace(FACTS, data={"duration_s": None})) == "filtered out by duration_over_s"
    assert rules.why_not(config, FAILED, replace(FACTS, data={})) == ""


def test_an_outcome_equal_to_the_one_before_is_not_a_change() -> None:
    config = owned(filters={"only_on_change": True})

    assert rules.why_not(config, FAILED, replace(FACTS, changed=False)) == "filtered out by only_on_change"
    assert rules.why_not(config, FAILED, replace(FACTS, changed=None)) == ""


def test_a_config_gets_only_the_types_it_subscribes_to() -> None:
    reason = rules.why_not(owned(), frozenset({"workflow.completed"}), FACTS)

    assert reason == "the config does not subscribe to workflow_failed"


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (replace(FACTS, audience=Audience(everyone=False, user_ids=frozenset({7}))), ""),
        (
            replace(FACTS, audience=Audience(everyone=False, user_ids=frozenset({8}))),
            "its owner cannot see the workflow",
        ),
        (replace(FACTS, audience=None), "the workflow was deleted"),
        (replace(FACTS, workflow_id=None, audience=None), ""),
        (replace(FACTS, workflow_id=None, audience=None, user_id=None), ""),
        (replace(FACTS, workflow_id=None, audience=None, user_id=8), "the event belongs to another user"),
    ],
)
def test_nobody_is_notified_of_what_they_cannot_see(facts: Facts, reason: str) -> None:
    assert rules.why_hidden(owned(), facts) == reason


def test_an_inactive_account_gets_nothing() -> None:
    config = NotificationConfig(pk=1, owner=User(pk=7, role=Role.USER, is_active=False))

    assert rules.why_hidden(config, FACTS) == "the account of its owner is inactive"


@pytest.mark.parametrize(
    ("begin", "end", "now", "quiet_until"),
    [
        ("22:00", "07:00", "2026-03-02T23:00", "2026-03-03T07:00"),
        ("22:00", "07:00", "2026-03-03T06:59", "2026-03-03T07:00"),
        ("22:00", "07:00", "2026-03-03T07:00", None),
        ("22:00", "07:00", "2026-03-02T21:59", None),
        ("12:00", "13:00", "2026-03-02T12:30", "2026-03-02T13:00"),
        ("12:00", "13:00", "2026-03-02T13:30", None),
        ("12:00", "12:00", "2026-03-02T12:00", None),
    ],
)
def test_quiet_hours_end_on_time(begin: str, end: str, now: str, quiet_until: str | None) -> None:
    config = owned(quiet_from=time.fromisoformat(begin), quiet_until=time.fromisoformat(end), quiet_timezone="UTC")
    expected = datetime.fromisoformat(quiet_until).replace(tzinfo=UTC) if quiet_until else None

    assert rules.quiet_end(config, datetime.fromisoformat(now).replace(tzinfo=UTC)) == expected


def test_quiet_hours_follow_their_time_zone() -> None:
    config = owned(quiet_from=time(22), quiet_until=time(7), quiet_timezone="Europe/Berlin")

    end = rules.quiet_end(config, datetime(2026, 7, 1, 20, 30, tzinfo=UTC))

    assert end is not None
    assert end.astimezone(UTC) == datetime(2026, 7, 2, 5, tzinfo=UTC)
    assert rules.quiet_end(config, datetime(2026, 7, 1, 19, 30, tzinfo=UTC)) is None


@pytest.mark.django_db
def test_only_the_first_of_several_equal_outcomes_is_a_change(workflow: Workflow) -> None:
    outcomes = [complete, fail, fail, complete, complete]

    changed = [facts_of.of(end(start_run(workflow))).changed for end in outcomes]

    assert changed == [False, True, False, True, False]


def test_the_schedule_is_the_documented_one() -> None:
    waits = [rules.next_try(tries, jitter=0) for tries in range(1, 8)]
    longest = [rules.next_try(tries, jitter=1) for tries in range(1, 3)]

    s, m, h = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
    assert waits == [5 * s, 5 * m, 30 * m, 2 * h, 5 * h, 10 * h, None]
    assert longest == [6 * s, 6 * m]


def test_retry_after_can_only_make_the_wait_longer() -> None:
    assert rules.next_try(1, jitter=0, retry_after=120) == timedelta(seconds=120)
    assert rules.next_try(2, jitter=0, retry_after=1) == timedelta(minutes=5)
    assert rules.next_try(1, jitter=0, retry_after=1e12) == timedelta(hours=24)
    assert rules.pause(1, jitter=0, retry_after=120) == timedelta(seconds=120)
    assert [rules.pause(n, jitter=0).total_seconds() for n in (1, 2, 3, 4, 5, 50)] == [5, 10, 20, 40, 60, 60]
