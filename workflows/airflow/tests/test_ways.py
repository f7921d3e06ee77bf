"""The ways in whose credentials somebody else gives: the same rules hold for each of them."""

from __future__ import annotations

import base64
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from workflows.airflow import AirflowClient, Timeout, errors
from workflows.airflow.access import Access, Command, Google
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


# --- What only one way has ------------------------------------------------------------------------------------


def ask(access: Access) -> None:
    with AirflowClient(access) as client:
        client.version()


def test_a_service_account_that_google_refuses_is_an_auth_error(provider: Provider, tmp_path: Path) -> None:
    provider.answer = Reply(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})

    with pytest.raises(errors.AirflowAuthError, match=r"^Google gives no token \(RefreshError\)$"):
        ask(provider.access("google", tmp_path))


@pytest.mark.parametrize("content", ["", "{}", '{"type": "service_account", "private_key": "s3cret"}'])
def test_a_file_that_is_no_service_account_is_an_auth_error(provider: Provider, tmp_path: Path, content: str) -> None:
    file = tmp_path / "key.json"
    file.write_text(content)
    access = Access(base_url="http://127.0.0.1:1", way=Google(credentials_file=str(file)))

    with pytest.raises(errors.AirflowAuthError) as refused:
        ask(access)

    assert "s3cret" not in refused.value.message
    assert provider.asked == []


def test_with_an_audience_google_is_asked_for_an_id_token(
    provider: Provider, airflow: ScriptedAirflow, tmp_path: Path
) -> None:
    access = provider.access("google", tmp_path)
    assert isinstance(access.way, Google)
    claims = {"exp": int(time.time()) + 3600, "target_audience": "x"}
    token = f"{_part({'alg': 'RS256'})}.{_part(claims)}.token-1"
    provider.answer = Reply(200, {"id_token": token})

    ask(replace(access, way=replace(access.way, audience="client.apps.example.com")))

    assert airflow.last().headers["Authorization"] == f"Bearer {token}"
    assertion = provider.asked[0].body["assertion"].split(".")[1]
    assert json.loads(base64.urlsafe_b64decode(assertion + "=="))["target_audience"] == "client.apps.example.com"


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (
            Reply(403, {"message": "no"}, {"x-amzn-ErrorType": "AccessDeniedException"}),
            errors.AirflowAuthError,
            "AWS gives no token for MWAA (AccessDeniedException)",
        ),
        (
            Reply(404, {"message": "no"}, {"x-amzn-ErrorType": "ResourceNotFoundException"}),
            errors.AirflowAuthError,
            "AWS gives no token for MWAA (ResourceNotFoundException)",
        ),
        (
            Reply(429, {"message": "no"}, {"x-amzn-ErrorType": "ThrottlingException"}),
            errors.AirflowUnavailableError,
            "AWS gives no token for MWAA (ThrottlingException)",
        ),
    ],
)
def test_a_refusal_of_aws_is_told_by_its_code(
    provider: Provider, tmp_path: Path, answer: Reply, kind: type[errors.AirflowError], message: str
) -> None:
    provider.answer = answer

    with pytest.raises(errors.AirflowError) as refused:
        ask(provider.access("mwaa", tmp_path))

    assert (type(refused.value), refused.value.message) == (kind, message)


def test_without_credentials_of_aws_nothing_is_asked(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))

    with pytest.raises(errors.AirflowAuthError, match=r"^AWS gives no token for MWAA \(NoCredentialsError\)$"):
        ask(provider.access("mwaa", tmp_path))

    assert provider.asked == []


def test_on_airflow_2_mwaa_opens_a_session_whose_cookie_is_sent(provider: Provider, tmp_path: Path) -> None:
    """The shape of MWAA's web server with 2.x: the login path of Airflow 3 is a page that does not exist."""
    with ScriptedAirflow(api="/api/v1", version="2.10.3") as airflow:
        stranger = {"Set-Cookie": "session=of-a-stranger; HttpOnly; Path=/"}
        airflow.pages["POST", "/pluginsv2/aws_mwaa/login"] = lambda _: Reply(404, b"<h1>Not found</h1>", stranger)
        opened = {"Set-Cookie": "session=opened.abc; Secure; HttpOnly; Path=/; SameSite=Lax"}
        airflow.pages["POST", "/aws_mwaa/login"] = lambda _: Reply(200, {}, opened)
        airflow.runs[RUN] = run_json(*RUN)

        with AirflowClient(replace(provider.access("mwaa", tmp_path), base_url=airflow.url)) as client:
            assert client.runs.get(*RUN).state == "queued"

        exchanged = [request for request in airflow.requests if request.path == "/aws_mwaa/login"]
        assert [request.body for request in exchanged] == [{"token": "web-token-1"}]
        assert airflow.last().headers["Cookie"] == "session=opened.abc"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(401, {"detail": "Unauthorized"}), errors.AirflowAuthError),
        (Reply(302, None, {"Location": "/login/?next=x", "Set-Cookie": "session=x"}), errors.AirflowUnavailableError),
        (Reply(502, b"bad gateway"), errors.AirflowUnavailableError),
    ],
)
def test_a_sign_in_that_mwaa_does_not_take_opens_no_session(
    provider: Provider, airflow: ScriptedAirflow, tmp_path: Path, reply: Reply, kind: type[errors.AirflowError]
) -> None:
    for path in ("/pluginsv2/aws_mwaa/login", "/aws_mwaa/login"):
        airflow.pages["POST", path] = lambda _: reply

    with pytest.raises(kind, match=r"^MWAA's sign-in"):
        ask(provider.access("mwaa", tmp_path))

    assert airflow.calls == []


def by_command(airflow: ScriptedAirflow, *argv: str, environment: tuple[str, ...] = (), limit: float = 30) -> Access:
    way = Command(argv=argv, environment=environment)
    return Access(base_url=airflow.url, way=way, token_timeout=limit)


@pytest.mark.parametrize(
    "output",
    [
        "token-1",
        "  token-1\n\n",
        '{"token": "token-1"}',
        '{"token": "token-1", "expires_in": "600"}',
        '{"token": "token-1", "expires_at": 4102444800}',
        '{"token": "token-1", "expires_at": "2100-01-01T00:00:00Z"}',
        '{"token": "token-1", "expires_at": "2100-01-01T00:00:00"}',
        '{"token": "token-1", "expires_at": null}',
    ],
)
def test_a_command_may_print_a_token_alone_or_with_its_end(airflow: ScriptedAirflow, output: str) -> None:
    airflow.is_guarded = True

    ask(by_command(airflow, "printf", "%s", output))

    assert airflow.last().token == 1


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (("sh", "-c", "echo token-1; exit 3"), "it ended with exit code 3"),
        (("/no/such/program",), "it cannot be started, No such file or directory"),
        (("true",), "it printed no token"),
        (("echo", "two words"), "it printed no token"),
        (("printf", "a\nb"), "it printed no token"),
        (("echo", '{"token": 1}'), "it printed no token"),
        (("echo", '{"token": "a b"}'), "it printed no token"),
        (("echo", '{"token": "s3cret"'), "its output begins as JSON and is none"),
        (("echo", '{"token": "s3cret", "expires_in": "soon"}'), "expires_in is no number of seconds"),
        (
            ("echo", '{"token": "s3cret", "expires_at": "soon"}'),
            "expires_at is neither seconds since 1970 nor a time like 2030-01-31T12:00:00Z",
        ),
    ],
)
def test_a_command_that_gives_no_token_says_why_without_its_output(
    airflow: ScriptedAirflow, argv: tuple[str, ...], why: str
) -> None:
    with pytest.raises(errors.AirflowUnavailableError) as failed:
        ask(by_command(airflow, *argv))

    assert failed.value.message == f"the command of AIRFLOW_TOKEN_COMMAND gives no token ({why})"
    assert airflow.requests == []


def test_a_command_that_hangs_ends_with_its_children(airflow: ScriptedAirflow, tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path / 'child'}; sleep 600"

    with pytest.raises(errors.AirflowUnavailableError, match=r"\(it took more than 1 s\)$"):
        ask(by_command(airflow, "sh", "-c", script, limit=1))

    child = int((tmp_path / "child").read_text())
    until(lambda: not _lives(child))


def test_a_command_sees_no_secret_of_ours_and_what_it_was_promised(
    airflow: ScriptedAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "s3cret")
    monkeypatch.setenv("VAULT_ADDR", "token-1")
    airflow.is_guarded = True

    ask(by_command(airflow, "sh", "-c", "echo $SECRET_KEY$VAULT_ADDR", environment=("VAULT_ADDR",)))

    assert airflow.last().headers["Authorization"] == "Bearer token-1"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def _part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
