"""Logs of any size: one reading for all pages and readers, a wait that is no outage, and bounded copies."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from rest.errors import UnavailableError
from workflows import gateway, task_logs
from workflows.airflow.tests.scripted import Reply, Request
from workflows.conftest import bearer, token_of
from workflows.models import Event, Run, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.task_logs import LogPage, LogQuery, copies
from workflows.tests.stage import StagedAirflow, new_run

DEADLINE = 30.0
Ask = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "PAUSE_PER_READING", 0)
    copies.copies.cache_clear()


@pytest.fixture
def run(nightly: Workflow) -> Run:
    return new_run(nightly, RunState.RUNNING)


@pytest.fixture
def ask(ada: User, run: Run) -> Ask:
    client = bearer(token_of(ada))
    url = f"/api/v1/workflows/{run.workflow_id}/runs/{run.pk}/tasks"

    def get(task_id: str = "load", **params: Any) -> Any:
        return client.get(f"{url}/{task_id}/logs", params)

    return get


class Slow:
    """A log that Airflow does not send before it is released."""

    def __init__(self, airflow: StagedAirflow, run: Run, *texts: str, task_id: str = "load") -> None:
        self.released = threading.Event()
        self.asked = 0
        self._body = b"".join(json.dumps({"event": text, "level": "info"}).encode() + b"\n" for text in texts)
        path = f"/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances/{task_id}/logs/1"
        airflow.put_task(run, task_id, "success")
        airflow.answers["GET", path] = self

    def __call__(self, _request: Request) -> Reply:
        self.asked += 1
        assert self.released.wait(DEADLINE)
        return Reply(200, self._body)


def end_task(airflow: StagedAirflow, run: Run) -> None:
    """Let the task have ended some time ago, so that its log is complete."""
    airflow.put_task(run, "load", "success")
    row = airflow.tasks[run.dag_id, run.dag_run_id, "load", -1]
    row["end_date"] = (timezone.now() - timedelta(minutes=5)).isoformat()


def logs_read(airflow: StagedAirflow) -> int:
    return sum("/logs/" in path for _, path in airflow.calls)


def texts(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.json()
    return [line["text"] for line in answer.json()["lines"]]


def until_there(ask: Ask, **params: Any) -> Any:
    """Repeat a request as long as the answer is 202."""
    end = time.monotonic() + DEADLINE
    while (answer := ask(**params)).status_code == 202:
        assert time.monotonic() < end
    return answer


@pytest.mark.parametrize("params", [{"tail": 20}, {}])
def test_a_log_that_airflow_prepares_for_long_is_202_and_no_outage(
    airflow: StagedAirflow, run: Run, ask: Ask, settings: Settings, params: dict[str, int]
) -> None:
    """Before: 503 `upstream_unavailable` after 10 s; five of these opened the breaker for everybody."""
    settings.LOG_WAIT, settings.AIRFLOW_READ_TIMEOUT, settings.BREAKER_FAILURES = 0.2, 0.1, 1
    slow = Slow(airflow, run, *map(str, range(100)))

    waiting = [ask(**params) for _ in range(6)]
    slow.released.set()
    answer = until_there(ask, **params)

    assert [each.status_code for each in waiting] == [202] * 6
    body = waiting[-1].json()
    assert (body["code"], body["task_id"], body["try_number"], body["state"]) == ("preparing", "load", 1, "success")
    assert body["detail"] == "Airflow is still preparing this log."
    assert body["waited_s"] >= 1.0
    assert waiting[0]["Retry-After"] == "1"
    assert texts(answer)[-1] == "99"
    assert slow.asked == 1
    assert gateway.breaker_is_closed(DEFAULT)
    assert gateway.answers(DEFAULT)
    assert not Event.objects.filter(type="system.airflow_down").exists()


def test_a_log_is_read_once_for_all_of_its_pages(airflow: StagedAirflow, run: Run, ask: Ask) -> None:
    """Before: Airflow sent the whole log for each of the pages."""
    end_task(airflow, run)
    airflow.put_log(run, "load", *map(str, range(5000)))
    pages = [ask(limit=500)]
    while pages[-1].json()["has_more"]:
        pages.append(ask(limit=500, cursor=pages[-1].json()["cursor"]))

    assert [text for page in pages for text in texts(page)] == list(map(str, range(5000)))
    assert [page.json()["ended"] for page in pages] == [False] * 9 + [True]
    assert texts(ask(tail=2)) == ["4998", "4999"]
    assert logs_read(airflow) == 1


def test_a_log_that_grows_goes_on_where_its_copy_ends(airflow: StagedAirflow, run: Run, ask: Ask) -> None:
    airflow.put_task(run, "load", "running")
    airflow.put_log(run, "load", *map(str, range(1200)))
    cursor = ask(tail=1).json()["cursor"]
    airflow.put_log(run, "load", *map(str, range(2400)))

    assert texts(ask(cursor=cursor, limit=5000)) == list(map(str, range(1200, 2400)))
    assert texts(ask(limit=5000)) == list(map(str, range(2400)))


def test_a_log_that_became_shorter_is_read_from_its_start_again(airflow: StagedAirflow, run: Run, ask: Ask) -> None:
    airflow.put_task(run, "load", "running")
    airflow.put_log(run, "load", "one", "two", "three")
    ask()
    airflow.put_log(run, "load", "another")
    ask()

    assert texts(until_there(ask)) == ["another"]


def test_a_line_of_two_megabytes_is_shown_as_text_with_its_time(airflow: StagedAirflow, run: Run, ask: Ask) -> None:
    """Before: the first 256 KiB of Airflow's JSON, without a time and a level."""
    airflow.put_task(run, "load", "running")
    airflow.put_log(run, "load", "x" * 2_000_000, "after")
    airflow.logs[run.dag_id, run.dag_run_id, "load", -1, 1][0] = {
        "timestamp": "2026-03-01T12:00:00Z",
        "event": "x" * 2_000_000,
        "level": "error",
    }

    long, after = ask().json()["lines"]

    assert (long["timestamp"], long["level"], long["is_cut"]) == ("2026-03-01T12:00:00Z", "error", True)
    assert long["text"].startswith("xxx")
    assert long["text"].endswith("x… [cut: the line has 2,000,068 bytes]")
    assert (after["text"], after["is_cut"]) == ("after", False)


def test_while_airflow_is_known_to_be_away_a_log_answers_at_once_and_airflow_is_not_asked(
    airflow: StagedAirflow, run: Run, ask: Ask
) -> None:
    airflow.put_task(run, "load", "running")
    gateway.record_down(DEFAULT, reason="test", now=timezone.now())

    answer = ask()

    assert (answer.status_code, answer.json()["code"]) == (503, "upstream_unavailable")
    assert airflow.requests == []


def test_the_part_of_a_log_that_was_read_is_shown_while_airflow_is_away(
    airflow: StagedAirflow, run: Run, ask: Ask
) -> None:
    airflow.put_task(run, "load", "running")
    airflow.put_log(run, "load", "one", "two", "three")
    cursor = ask(limit=1).json()["cursor"]
    gateway.record_down(DEFAULT, reason="test", now=timezone.now())
    airflow.requests.clear()

    assert texts(ask(cursor=cursor)) == ["two", "three"]
    assert airflow.requests == []


def test_a_look_that_fails_leaves_the_log_to_the_next_reader(airflow: StagedAirflow, run: Run, ada: User) -> None:
    airflow.put_task(run, "load", "running")
    airflow.put_log(run, "load", "one")
    page = task_logs.read(run, LogQuery(task_id="load"), user_id=ada.pk, now=timezone.now())
    assert isinstance(page, LogPage)
    query = LogQuery(task_id="load", cursor=page.cursor)
    path = f"/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances/load"
    airflow.put_log(run, "load", "one", "two")
    airflow.answers["GET", path] = lambda _request: Reply(500)
    with pytest.raises(UnavailableError):
        task_logs.follow(run, query, user_id=ada.pk, now=timezone.now())
    del airflow.answers["GET", path]

    end = time.monotonic() + DEADLINE
    texts_seen: list[str] = []
    while not texts_seen:
        assert time.monotonic() < end
        page = task_logs.follow(run, query, user_id=ada.pk, now=timezone.now())
        assert isinstance(page, LogPage)
        texts_seen = [line.text for line in page.lines]

    assert texts_seen == ["two"]


def test_a_log_that_is_too_large_shows_its_start_and_says_so(
    airflow: StagedAirflow, run: Run, ask: Ask, settings: Settings
) -> None:
    settings.LOG_COPY_BYTES = 100_000
    end_task(airflow, run)
    airflow.put_log(run, "load", *(f"{n:0999}" for n in range(3000)))

    page = ask(limit=10_000)

    assert texts(page)[:-1] == [f"{n:0999}" for n in range(500)]
    assert texts(page)[-1] == "SVOps shows the first 100,000 bytes of a log. Read the rest in Airflow."
    assert page.json()["ended"] is True


def test_the_copies_stay_within_their_limit(airflow: StagedAirflow, run: Run, ask: Ask, settings: Settings) -> None:
    settings.LOG_CACHE_BYTES, settings.LOG_COPY_BYTES = 400_000, 150_000
    for name in "abcd":
        airflow.put_task(run, name, "success")
        airflow.put_log(run, name, *(f"{name}{n:0499}" for n in range(200)), "Task killed!")
        assert ask(name, tail=1).status_code == 200
    airflow.requests.clear()

    assert texts(ask("d", tail=1)) == ["Task killed!"]
    assert logs_read(airflow) == 0
    assert texts(ask("a", limit=1)) == [f"a{0:0499}"]
    assert logs_read(airflow) == 1


def test_without_room_on_the_disk_the_answer_is_busy(
    airflow: StagedAirflow, run: Run, ask: Ask, settings: Settings, tmp_path: Path
) -> None:
    settings.LOG_CACHE_DIR = str(tmp_path / "missing")
    airflow.put_task(run, "load", "running")
    airflow.put_log(run, "load", "one")

    answer = ask()

    assert (answer.status_code, answer.json()["code"], answer["Retry-After"]) == (503, "busy", "2")
    assert gateway.answers(DEFAULT)


def test_one_user_cannot_take_all_connections_for_logs(
    airflow: StagedAirflow, run: Run, ask: Ask, eve: User, settings: Settings
) -> None:
    settings.LOG_WAIT, settings.AIRFLOW_POOL_WAIT = 0.2, 0.2
    slow = [Slow(airflow, run, "one", task_id=f"slow_{n}") for n in range(settings.AIRFLOW_POOL_LOGS)]
    airflow.put_task(run, "load", "success")
    airflow.put_log(run, "load", "two")

    mine = [ask(f"slow_{n}") for n in range(settings.AIRFLOW_POOL_LOGS)]
    settings.LOG_WAIT = DEADLINE
    url = f"/api/v1/workflows/{run.workflow_id}/runs/{run.pk}/tasks/load/logs"
    others = bearer(token_of(eve)).get(url)
    for each in slow:
        each.released.set()

    assert [answer.status_code for answer in mine] == [202, 202, 503]
    assert (mine[-1].json()["code"], mine[-1].json()["detail"]) == (
        "busy",
        "SVOps is busy: you already read 2 logs at once. Try again.",
    )
    assert texts(others) == ["two"]
    assert texts(until_there(lambda **_: ask("slow_0"))) == ["one"]
    assert gateway.breaker_is_closed(DEFAULT)
    assert not Event.objects.filter(type="system.airflow_down").exists()
