"""A caller's requests take turns; nobody waits for those of others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest
from pytest_django import Settings
from rest_framework.request import Request
from rest_framework.test import APIClient, APIRequestFactory

from accounts import turns
from accounts.models import User
from accounts.turns import TURNS, Turns
from rest.errors import TooManyOfYoursError
from tests.live.parts import until

PATIENCE = 30.0


class Requests:
    """Requests of callers in threads: each takes its turn, and works until it is released."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.began = threading.Semaphore(0)
        self.waits = threading.Semaphore(0)
        self.release = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []

    def begin(self, who: str, count: int = 1) -> None:
        for _ in range(count):
            self._threads.append(threading.Thread(target=self._request, args=(who,)))
            self._threads[-1].start()

    def _request(self, who: str) -> None:
        self.turns.take(who, before_waiting=self.waits.release)
        self.began.release()
        self.release.acquire(timeout=PATIENCE)
        self.turns.give_back(who)

    def end(self) -> None:
        for _ in self._threads:
            self.release.release()
        for thread in self._threads:
            thread.join(PATIENCE)


def many(semaphore: threading.Semaphore, count: int) -> bool:
    """Wait until this has happened so many times."""
    return all(semaphore.acquire(timeout=PATIENCE) for _ in range(count))


def test_one_caller_has_so_many_turns_and_others_have_their_own(settings: Settings) -> None:
    settings.REQUESTS_AT_ONCE = 2
    requests = Requests()

    requests.begin("user:1", 5)
    assert many(requests.began, 2)
    assert many(requests.waits, 3)
    requests.begin("user:2")
    assert many(requests.began, 1)
    assert not requests.began.acquire(blocking=False)

    requests.end()
    assert many(requests.began, 3)
    assert requests.turns._lines == {}


def test_a_turn_that_is_given_back_goes_to_the_next(settings: Settings) -> None:
    settings.REQUESTS_AT_ONCE = 1
    requests = Requests()
    requests.begin("user:1", 2)
    assert many(requests.began, 1)
    assert many(requests.waits, 1)

    requests.release.release()

    assert many(requests.began, 1)
    requests.end()


def test_a_request_does_not_wait_for_ever(settings: Settings) -> None:
    settings.REQUESTS_AT_ONCE = 1
    line = Turns()
    line.take("user:1")

    with pytest.raises(TooManyOfYoursError):
        line.take("user:1", wait=0.01)

    line.give_back("user:1")
    line.take("user:1", wait=0.01)


def test_only_so_many_wait(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.REQUESTS_AT_ONCE = 1
    monkeypatch.setattr(turns, "MOST_WAITING", 0)
    line = Turns()
    line.take("user:1")

    with pytest.raises(TooManyOfYoursError) as refused:
        line.take("user:1")

    assert (refused.value.http_status, refused.value.retry_after) == (429, 2)


@pytest.fixture
def others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has asked once is at work for the whole test."""
    monkeypatch.setattr(turns, "LATELY", float("inf"))


def costly(line: Turns, who: str) -> None:
    """Let a request of the caller cost so much that the next turn is far away."""
    line.take(who)
    line._lines[who].cost = 1e6


@pytest.mark.usefixtures("others_work")
def test_while_others_work_a_flood_has_one_turn_after_the_other(settings: Settings) -> None:
    """Before: four turns at once, whoever waited: four fifths of the processor."""
    settings.REQUESTS_AT_ONCE = 4
    requests = Requests()
    requests.turns.take("user:2")
    requests.turns.give_back("user:2")
    costly(requests.turns, "user:1")
    line = requests.turns._lines["user:1"]
    line.next_at = float("inf")

    requests.begin("user:1", 5)

    assert many(requests.waits, 5)
    assert not requests.began.acquire(blocking=False)
    line.next_at = line.cost = 0.0
    requests.turns.give_back("user:1")
    requests.end()
    assert many(requests.began, 5)


def test_while_nobody_else_works_a_caller_has_all_turns(settings: Settings) -> None:
    settings.REQUESTS_AT_ONCE = 4
    line = Turns()

    for _ in range(4):
        costly(line, "user:1")

    assert line._lines["user:1"].working == 4


@pytest.mark.usefixtures("others_work")
def test_who_has_one_request_at_a_time_never_waits(settings: Settings) -> None:
    settings.REQUESTS_AT_ONCE = 1
    line = Turns()
    for _ in range(20):
        for who in ("user:1", "user:2"):
            line.take(who, wait=0)
            line.give_back(who, cost=1e6)

    assert line._lines == {}


@pytest.mark.parametrize(("share", "apart"), [(1.0, 0.5), (0.25, 2.0), (0.1, 5.0)])
def test_turns_of_a_flood_are_as_far_apart_as_its_share_says(settings: Settings, share: float, apart: float) -> None:
    settings.BUSY_SHARE = share
    line = turns._Line(cost=0.5)

    line.begin(100.0)

    assert line.next_at == 100.0 + apart


@pytest.mark.usefixtures("others_work")
def test_the_cost_of_requests_is_learned(settings: Settings) -> None:
    settings.REQUESTS_AT_ONCE = 2
    line = Turns()
    line.take("user:1")
    line.take("user:1")
    for _ in range(20):
        line.give_back("user:1", cost=0.3)
        line.take("user:1")

    assert line._lines["user:1"].cost == pytest.approx(0.3, abs=0.01)


def is_long(line: Turns, count: int) -> bool:
    return len(line._lines["user:1"].waiting) == count


@pytest.mark.usefixtures("others_work")
def test_requests_of_a_caller_begin_in_the_order_in_which_they_came(settings: Settings) -> None:
    settings.REQUESTS_AT_ONCE = 1
    line, order = Turns(), []
    line.take("user:1")

    def one(number: int) -> None:
        line.take("user:1")
        order.append(number)
        line.give_back("user:1")

    threads = []
    for number in range(5):
        threads.append(threading.Thread(target=one, args=(number,)))
        threads[-1].start()
        until(partial(is_long, line, number + 1), within=PATIENCE)
    line.give_back("user:1")
    for thread in threads:
        thread.join(PATIENCE)

    assert order == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("path", ["/api/v1/auth/me", "/api/v1/workflows/99999", "/api/v1/users"])
def test_an_answer_gives_the_turn_back_whatever_it_says(
    as_user: Callable[[User], APIClient], ada: User, settings: Settings, path: str
) -> None:
    settings.REQUESTS_AT_ONCE = 1

    statuses = {as_user(ada).get(path).status_code for _ in range(3)}

    assert len(statuses) == 1
    assert TURNS._lines == {}


def test_a_caller_whose_turns_are_taken_gets_429_and_others_an_answer(
    as_user: Callable[[User], APIClient], ada: User, vera: User, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.REQUESTS_AT_ONCE = 1
    monkeypatch.setattr(turns, "MOST_WAITING", 0)
    TURNS.take(f"user:{ada.pk}")

    try:
        refused, other = (as_user(user).get("/api/v1/auth/me") for user in (ada, vera))
    finally:
        TURNS.give_back(f"user:{ada.pk}")

    assert (refused.status_code, refused.json()["code"], refused["Retry-After"]) == (429, "busy", "2")
    assert other.status_code == 200


def test_a_request_without_the_middleware_keeps_no_turn(ada: User) -> None:
    request = Request(APIRequestFactory().get("/"))
    request.user = ada

    assert turns.TurnThrottle().allow_request(request, view=None)

    assert TURNS._lines == {}
