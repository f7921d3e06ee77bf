"""The ways in whose credentials somebody else gives: the same rules hold for each of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from workflows.airflow import AirflowClient, Timeout, errors
from workflows.airflow.credentials import Keeper
from workflows.airflow.ways import source

from .provider import Provider
from .scripted import Hold, Reply, ScriptedAirflow, run_json

RUN = ("etl", "svops__1")
WAYS = ("oauth2", "google", "mwaa", "command")


@pytest.fixture
def provider(airflow: ScriptedAirflow, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    airflow.is_guarded = True
    airflow.runs[RUN] = run_json(*RUN)
    with ScriptedAirflow() as server:
        provider = Provider(airflow, server)
        for name, value in {
            "AWS_ENDPOINT_URL_MWAA": server.url,
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "aws-s3cret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            monkeypatch.setenv(name, value)
        yield provider


class Clock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


Connect = Callable[..., AirflowClient]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def connect(way: str, provider: Provider, clock: Clock, tmp_path: Path) -> Iterator[Connect]:
    clients = []

    def connect(timeout: Timeout = Timeout(connect=30, read=30), **more: Any) -> AirflowClient:  # noqa: B008
        access = provider.access(way, tmp_path, token_timeout=30, **more)
        keeper = Keeper(source(access), limit=90, clock=clock)
        clients.append(AirflowClient(access, keeper=keeper, timeout=timeout))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def until(holds: Callable[[], bool], *, within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_token_serves_all_requests_and_none_goes_without_it(
    airflow: ScriptedAirflow, provider: Provider, connect: Connect
) -> None:
    client = connect()

    assert client.version() == "3.3.2"
    assert client.runs.get(*RUN).dag_run_id == "svops__1"

    assert len(provider.asked) == 1
    asked = [request for request in airflow.requests if request.path.startswith("/api/")]
    assert {request.token for request in asked} == {1}


def test_a_token_is_renewed_before_it_expires_and_nobody_waits_for_that(
    airflow: ScriptedAirflow, provider: Provider, connect: Connect, clock: Clock
) -> None:
    client = connect()
    provider.lifetime = 1000
    client.runs.get(*RUN)
    provider.hold, clock.ahead = Hold(), _due(client)

    assert client.runs.get(*RUN).state == "queued"
    assert airflow.last().token == 1

    assert provider.hold.arrived.wait(60)
    provider.hold.released.set()
    until(lambda: airflow.logins == 2)
    until(lambda: client.runs.get(*RUN).state == "queued" and airflow.last().token == 2)
    assert len(provider.asked) == 2


def test_a_token_that_has_expired_is_not_sent(
    airflow: ScriptedAirflow, provider: Provider, connect: Connect, clock: Clock
) -> None:
    client = connect()
    provider.lifetime = 1000
    client.runs.get(*RUN)
    clock.ahead = 13 * 3600

    client.runs.get(*RUN)

    assert airflow.last().token == 2
    assert len(provider.asked) == 2


def test_a_token_that_is_refused_is_renewed_and_the_request_made_once_more(
    airflow: ScriptedAirflow, provider: Provider, connect: Connect
) -> None:
    client = connect()
    client.runs.get(*RUN)
    airflow.expire_tokens()

    client.runs.trigger("etl", dag_run_id="svops__2", conf={})

    assert len(provider.asked) == 2
    assert ("etl", "svops__2") in airflow.runs


def test_a_token_that_is_refused_again_is_reported_and_the_provider_is_not_asked_each_time(
    airflow: ScriptedAirflow, provider: Provider, connect: Connect
) -> None:
    client = connect()
    client.runs.get(*RUN)
    airflow.next_api_calls.extend([Reply(401, {"detail": "Token Expired"})] * 4)

    for _ in range(3):
        with pytest.raises(errors.AirflowAuthError, match=r"^Token Expired$"):
            client.runs.get(*RUN)

    assert len(provider.asked) == 2


def test_a_missing_right_is_no_reason_for_a_new_token(
    airflow: ScriptedAirflow, provider: Provider, connect: Connect, clock: Clock
) -> None:
    client = connect()
    client.runs.get(*RUN)
    clock.ahead = 300
    airflow.next_api_calls.append(Reply(403, {"detail": "Forbidden"}))

    with pytest.raises(errors.AirflowAuthError, match=r"^Forbidden$"):
        client.runs.get(*RUN)

    assert len(provider.asked) == 1


@pytest.mark.parametrize("refusal", [Reply(302, None, {"Location": "/login"}), Reply(403, b"<h1>Forbidden</h1>")])
def test_what_is_in_front_of_airflow_may_refuse_an_old_token_in_its_own_words(
    airflow: ScriptedAirflow, provider: Provider, connect: Connect, clock: Clock, refusal: Reply
) -> None:
    client = connect()
    client.runs.get(*RUN)
    clock.ahead = 300
    airflow.next_api_calls.append(refusal)

    assert client.runs.get(*RUN).state == "queued"

    assert len(provider.asked) == 2


def test_threads_at_once_share_one_request_for_a_token(
    airflow: ScriptedAirflow, provider: Provider, connect: Connect
) -> None:
    client = connect()

    with ThreadPoolExecutor(8) as pool:
        states = list(pool.map(lambda _: client.runs.get(*RUN).state, range(24)))
    airflow.expire_tokens()
    with ThreadPoolExecutor(8) as pool:
        states += list(pool.map(lambda _: client.runs.get(*RUN).state, range(24)))

    assert states == ["queued"] * 48
    assert len(provider.asked) == 2


def test_a_provider_that_is_away_is_no_harm_while_the_token_is_good(
    airflow: ScriptedAirflow, provider: Provider, connect: Connect, clock: Clock
) -> None:
    client = connect()
    provider.lifetime = 1000
    client.runs.get(*RUN)
    provider.answer, clock.ahead = Reply(503, b"busy"), _due(client)

    assert client.runs.get(*RUN).state == "queued"
    until(lambda: len(provider.asked) >= 2)
    assert client.runs.get(*RUN).state == "queued"

    assert airflow.last().token == 1


@pytest.mark.parametrize(
    "answer",
    [Reply(503, b"busy"), Reply(200, b"<html>Sign in</html>"), Reply(200, {"hello": "world"}), Reply(200, [])],
    ids=["away", "a page", "no token", "no object"],
)
def test_a_provider_without_a_token_is_no_answer_and_the_request_was_not_sent(
    airflow: ScriptedAirflow, provider: Provider, connect: Connect, answer: Reply
) -> None:
    client = connect()
    provider.answer = answer

    with pytest.raises(errors.AirflowUnavailableError) as unavailable:
        client.runs.get(*RUN)

    assert (unavailable.value.sent, unavailable.value.retryable) == (False, True)
    assert airflow.calls == []
    provider.answer = None
    assert client.runs.get(*RUN).state == "queued"


def test_a_slow_provider_takes_no_more_time_than_the_caller_has_and_its_answer_serves_the_next(
    airflow: ScriptedAirflow, provider: Provider, connect: Connect
) -> None:
    client = connect(Timeout(connect=30, read=0.2))
    provider.hold = Hold()

    with pytest.raises(errors.AirflowUnavailableError, match=r"^the token for Airflow took more than") as late:
        client.runs.get(*RUN)
    assert not late.value.sent
    assert airflow.calls == []

    assert provider.hold.arrived.wait(60)
    provider.hold.released.set()
    until(lambda: airflow.logins == 1)
    until(lambda: _answers(client))
    assert len(provider.asked) == 1


def test_nothing_secret_is_logged_or_shown(
    airflow: ScriptedAirflow,
    provider: Provider,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    way: str,
    tmp_path: Path,
) -> None:
    caplog.set_level(logging.DEBUG, logger="workflows")
    client = connect(headers=(("X-Key", "header-s3cret"),))
    client.runs.get(*RUN)
    airflow.expire_tokens()
    provider.answer = Reply(400, {"error": "invalid_client", "error_description": "not s3cret token-1 hunter2"})

    with pytest.raises(errors.AirflowError) as refused:
        client.runs.get(*RUN)

    access = provider.access(way, tmp_path, headers=(("X-Key", "header-s3cret"),), proxy="http://u:proxy-s3cret@p:1")
    keeper = repr(Keeper(source(access), limit=1))
    shown = " ".join(
        [caplog.text, repr(refused.value), repr(access), keeper, *(str(r.__dict__) for r in caplog.records)]
    )
    assert not [word for word in ("s3cret", "token-1", "hunter2") if word in shown], shown


def _due(client: AirflowClient) -> float:
    """Return how far ahead the clock has to be for the token to be due and not to have expired."""
    keeper = client._connection._door._keeper  # type: ignore[attr-defined]
    current = keeper._current
    return 0.9 * float(current.expires_at - current.fetched_at)


def _answers(client: AirflowClient) -> bool:
    try:
        return client.runs.get(*RUN).state == "queued"
    except errors.AirflowUnavailableError:
        return False
