"""Pages that need no account: however many ask, the work is done once, and only some learn the details."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from accounts.models import Role
from tests.attack.conftest import READY_TOKEN, SHARED
from tests.attack.target import PATIENCE, Target
from tests.live.conftest import new_user, token_of
from workflows.airflow.tests.scripted import Reply, ScriptedAirflow

ASKERS = 40


def together(ask: Callable[[], requests.Response]) -> list[requests.Response]:
    with ThreadPoolExecutor(ASKERS) as pool:
        return [asked.result() for asked in [pool.submit(ask) for _ in range(2 * ASKERS)]]


def of_readyz(web: Target, token: str = "") -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return requests.get(f"{web.url}/readyz", headers=headers, timeout=PATIENCE)


@pytest.fixture
def asked(scripted_airflow: ScriptedAirflow) -> Callable[[], int]:
    """Count the questions about Airflow's health."""
    scripted_airflow.answers["GET", "/monitor/health"] = Reply(200, {"metadatabase": {"status": "unhealthy"}})
    return lambda: sum("/monitor/health" in request.path for request in scripted_airflow.requests)


def test_many_who_ask_whether_all_is_ready_are_one_question_to_airflow(web: Target, asked: Callable[[], int]) -> None:
    """Before: each question was one to Airflow; forty loops raised system.airflow_down and left triggers pending."""
    before = asked()

    answers = together(lambda: of_readyz(web))

    took = sum(answer.elapsed.total_seconds() for answer in answers)
    assert asked() - before <= 2 + took / SHARED
    assert {answer.text for answer in answers} <= {'{"status": "unavailable"}', '{"status": "ok"}'}


def test_a_question_without_an_account_writes_no_error_into_the_log(web: Target, asked: Callable[[], int]) -> None:
    """Before: an error for each question while the platform is not ready."""
    assert of_readyz(web).status_code == 503

    assert "Unavailable: /readyz" not in web.log


@pytest.mark.parametrize("role", [None, Role.VIEWER, Role.USER])
def test_a_caller_who_may_not_see_the_checks_sees_one_word(web: Target, role: Role | None) -> None:
    """Before: everybody read the versions, latencies and errors of the database, Redis and Airflow."""
    answer = of_readyz(web, token_of(new_user(role)) if role else "wrong")

    assert answer.json().keys() == {"status"}


def test_administrators_and_the_probe_see_each_check(web: Target) -> None:
    for token in (token_of(new_user(Role.ADMIN)), READY_TOKEN):
        assert of_readyz(web, token).json()["checks"].keys() == {
            "database",
            "redis",
            "airflow",
            "beat",
            "notifications",
        }


def test_the_description_is_made_once(web: Target) -> None:
    """Before: 0.27 s of CPU each time, so 22 s for these."""
    first = requests.get(f"{web.url}/api/v1/schema?format=json", timeout=PATIENCE)

    with web.measured() as cost:
        answers = together(lambda: requests.get(f"{web.url}/api/v1/schema?format=json", timeout=PATIENCE))

    assert {answer.status_code for answer in answers} == {200}
    assert {answer.text for answer in answers} == {first.text}
    assert cost.cpu_s < 5


def test_the_description_is_compressed_and_not_sent_again(web: Target) -> None:
    url = f"{web.url}/api/v1/schema"
    plain = requests.get(url, headers={"Accept-Encoding": "identity"}, timeout=PATIENCE)
    packed = requests.get(url, headers={"Accept-Encoding": "gzip"}, timeout=PATIENCE)
    again = requests.get(url, headers={"Accept-Encoding": "gzip", "If-None-Match": packed.headers["ETag"]}, timeout=9)

    assert packed.text == plain.text
    assert int(packed.headers["Content-Length"]) < len(plain.content) / 5
    assert packed.headers["ETag"] != plain.headers["ETag"]
    assert (again.status_code, again.content) == (304, b"")
    assert {"Accept", "Accept-Encoding"} <= {name.strip() for name in packed.headers["Vary"].split(",")}
