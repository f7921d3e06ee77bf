"""What `/readyz` says of one Airflow and of several."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from tests.airflows.conftest import PROD, add, forget
from tests.control.staged import ControlledAirflow
from workflows import gateway
from workflows.models import Airflow
from workflows.naming import DEFAULT

pytestmark = pytest.mark.django_db

SICK = {"metadatabase": {"status": "healthy"}, "scheduler": {"status": "unhealthy"}}


@pytest.fixture(autouse=True)
def _beat_ticks(db: None) -> None:
    Airflow.default()
    polled()


def polled(seconds_ago: float = 0, **fields: Any) -> None:
    """Note of all Airflows that beat ticks, and that the last poll was so long ago."""
    now = timezone.now()
    known: dict[str, Any] = {"ticked_at": now, "looked_at": now - timedelta(seconds=seconds_ago)}
    Airflow.objects.update(**known | fields)


def asked() -> tuple[int, str, Mapping[str, Any]]:
    """Return the status of the answer, its word, and each check."""
    headers = {"Authorization": f"Bearer {django_settings.READY_TOKEN}"}
    answer = Client().get("/readyz", headers=headers)
    return answer.status_code, answer.json()["status"], answer.json()["checks"]


def test_one_airflow_is_one_check(airflow: ControlledAirflow) -> None:
    status, word, checks = asked()

    assert (status, word) == (200, "ok")
    assert list(checks) == ["database", "redis", "airflow", "beat", "notifications"]
    assert checks["airflow"]["version"] == "3.3.2"


def test_one_airflow_that_is_down_is_unavailable(airflow: ControlledAirflow) -> None:
    with airflow.away("refuses"):
        status, word, checks = asked()

    assert (status, word, checks["airflow"]["status"]) == (503, "unavailable", "unavailable")


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (
            {"reachable": False, "last_error": "it refuses our credentials"},
            "the last call failed: it refuses our credentials",
        ),
        ({"looked_at": None}, "it has not been polled yet"),
        ({"seconds_ago": 300}, "the last poll that succeeded was 300 s ago"),
    ],
)
def test_one_that_answers_and_shows_us_nothing_is_unavailable(
    airflow: ControlledAirflow, known: dict[str, Any], reason: str
) -> None:
    """Before: a wrong password was 200, because health and version need none."""
    polled(**known)

    status, word, checks = asked()

    assert (status, word) == (503, "unavailable")
    assert checks["airflow"]["reason"] == reason


def test_before_the_first_tick_only_beat_is_missing(airflow: ControlledAirflow) -> None:
    polled(ticked_at=None, looked_at=None)

    assert {name for name, check in asked()[2].items() if check["status"] != "ok"} == {"beat"}


def test_each_further_one_has_a_check_of_its_own(airflow: ControlledAirflow, prod: ControlledAirflow) -> None:
    status, word, checks = asked()

    assert (status, word) == (200, "ok")
    assert list(checks) == ["database", "redis", "airflow", "airflow:prod", "beat", "notifications"]
    assert {checks[name]["version"] for name in ("airflow", "airflow:prod")} == {"3.3.2"}


@pytest.mark.parametrize(
    ("sick", "expected"),
    [
        ((), (200, "ok")),
        ((DEFAULT,), (200, "degraded")),
        ((PROD,), (200, "degraded")),
        ((DEFAULT, PROD), (503, "unavailable")),
    ],
)
def test_the_whole_is_unavailable_only_if_none_of_them_works(
    airflow: ControlledAirflow, prod: ControlledAirflow, sick: tuple[str, ...], expected: tuple[int, str]
) -> None:
    for name, server in ((DEFAULT, airflow), (PROD, prod)):
        if name in sick:
            server.health = SICK

    status, word, checks = asked()

    assert (status, word) == expected
    of_airflows = {name for name, check in checks.items() if check["status"] != "ok"}
    assert of_airflows == {"airflow" if name == DEFAULT else f"airflow:{name}" for name in sick}


def test_what_every_airflow_needs_still_decides(airflow: ControlledAirflow, prod: ControlledAirflow) -> None:
    prod.health = SICK
    Airflow.objects.update(ticked_at=timezone.now() - timedelta(minutes=5))

    assert asked()[:2] == (503, "unavailable")


def test_those_that_hang_are_waited_for_together(
    airflow: ControlledAirflow, prod: ControlledAirflow, settings: Settings
) -> None:
    """Before: one after the other."""
    settings.DISPATCH_BUDGET = 2.0
    with ExitStack() as servers:
        hanging = [servers.enter_context(ControlledAirflow()) for _ in range(5)]
        for number, server in enumerate(hanging):
            add(f"hung-{number}", server.url)
            server.go_away("hangs")

        began = time.monotonic()
        status, word, checks = asked()
        took = time.monotonic() - began

        for number, server in enumerate(hanging):
            server.come_back()
            forget(f"hung-{number}")
    assert (status, word) == (200, "degraded")
    assert [checks[f"airflow:hung-{number}"]["status"] for number in range(5)] == ["unavailable"] * 5
    assert checks["airflow:prod"]["latency_ms"] < 2000
    assert took < 5 * settings.DISPATCH_BUDGET


def test_one_whose_breaker_is_open_is_not_asked(airflow: ControlledAirflow, prod: ControlledAirflow) -> None:
    gateway.breaker(PROD).open()
    before = len(prod.requests)

    status, _, checks = asked()

    assert (status, checks["airflow:prod"]["reason"]) == (200, "it does not answer: the breaker is open")
    assert len(prod.requests) == before
    assert checks["airflow"]["status"] == "ok"


def test_one_whose_secrets_cannot_be_read_is_a_check(airflow: ControlledAirflow) -> None:
    Airflow.objects.create(name=PROD, options={"url": "http://127.0.0.1:9"}, secrets="sealed with a key that is gone")

    status, word, checks = asked()

    assert (status, word) == (200, "degraded")
    assert checks["airflow:prod"]["reason"].startswith("the way to prod cannot be read: ")


def test_one_that_is_not_active_has_no_check(airflow: ControlledAirflow, prod: ControlledAirflow) -> None:
    Airflow.objects.filter(name=PROD).update(is_active=False)

    assert "airflow:prod" not in asked()[2]
    assert prod.requests == []


@pytest.mark.parametrize(
    ("active", "checks"),
    [
        ((DEFAULT,), {"airflow"}),
        ((PROD,), {"airflow:prod"}),
        ((), set()),
        ((DEFAULT, PROD), {"airflow", "airflow:prod"}),
    ],
)
def test_only_active_ones_are_asked(
    airflow: ControlledAirflow, prod: ControlledAirflow, active: tuple[str, ...], checks: set[str]
) -> None:
    Airflow.objects.exclude(name__in=active).update(is_active=False)

    assert {name for name in asked()[2] if name.startswith("airflow")} == checks
    assert {name for name, server in ((DEFAULT, airflow), (PROD, prod)) if server.requests} == set(active)


def test_a_tick_for_any_of_them_shows_that_beat_lives(airflow: ControlledAirflow, prod: ControlledAirflow) -> None:
    Airflow.objects.filter(name=DEFAULT).update(ticked_at=timezone.now() - timedelta(minutes=5))
    Airflow.objects.filter(name=PROD).update(ticked_at=timezone.now())

    assert asked()[2]["beat"]["status"] == "ok"


def test_everybody_gets_the_one_word(airflow: ControlledAirflow, prod: ControlledAirflow) -> None:
    prod.health = SICK

    answer = Client().get("/readyz")

    assert (answer.status_code, answer.json()) == (200, {"status": "degraded"})
