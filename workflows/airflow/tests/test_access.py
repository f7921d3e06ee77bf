"""What lies between SVOps and Airflow: a token in a file, headers, a base path, TLS, a proxy, the pace."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from workflows.airflow import Access, AirflowClient, errors
from workflows.airflow.access import OAuth2, Password, StaticToken
from workflows.airflow.pace import OwnPace
from workflows.airflow.types import DagRun
from workflows.airflow.ways.tokens import bearer

from .certificates import Authority
from .scripted import Reply, Request, ScriptedAirflow, run_json

RUN = ("etl", "svops__1")
ADMIN = Password(username="admin", password="admin")


@pytest.fixture
def guarded(airflow: ScriptedAirflow) -> ScriptedAirflow:
    """An Airflow that accepts `token-1` and later ones, and asks everybody for one."""
    airflow.is_guarded = True
    airflow.runs[RUN] = run_json(*RUN)
    return airflow


def by_file(airflow: ScriptedAirflow, file: Path, token: str) -> AirflowClient:
    file.write_text(f"{token}\n")
    return AirflowClient(Access(base_url=airflow.url, way=StaticToken(file=str(file))))


# --- A token that somebody else changes -----------------------------------------------------------------------


def test_a_token_of_a_variable_is_sent_with_every_request(guarded: ScriptedAirflow) -> None:
    with AirflowClient(Access(base_url=guarded.url, way=StaticToken(value="token-1"))) as client:
        assert client.version() == "3.3.2"
        assert client.runs.get(*RUN).state == "queued"

    assert {request.token for request in guarded.requests} == {1}


def test_a_token_of_a_variable_that_is_refused_is_sent_once(guarded: ScriptedAirflow) -> None:
    with AirflowClient(Access(base_url=guarded.url, way=StaticToken(value="token-1"))) as client:
        client.runs.get(*RUN)
        guarded.next_api_calls.append(Reply(401, {"detail": "Token Expired"}))

        with pytest.raises(errors.AirflowAuthError, match=r"^Token Expired$"):
            client.runs.get(*RUN)

    assert len(guarded.calls) == 2


def test_a_changed_file_is_read_before_the_old_token_is_refused(guarded: ScriptedAirflow, tmp_path: Path) -> None:
    with by_file(guarded, tmp_path / "token", "token-1") as client:
        client.runs.get(*RUN)
        (tmp_path / "token").write_text("token-22\n")

        client.runs.get(*RUN)

    assert [request.token for request in guarded.requests] == [1, 1, 22]


def test_a_refused_token_is_read_again_from_a_file_that_looks_unchanged(
    guarded: ScriptedAirflow, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    with by_file(guarded, file, "token-1") as client:
        client.runs.get(*RUN)
        seen = file.stat()
        file.write_text("token-2\n")
        os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        guarded.logins = 1
        guarded.expire_tokens()

        client.runs.trigger("etl", dag_run_id="svops__2", conf={})

    assert [request.token for request in guarded.requests][-2:] == [1, 2]
    assert ("etl", "svops__2") in guarded.runs


def test_a_refused_token_that_is_still_in_the_file_is_not_sent_again(guarded: ScriptedAirflow, tmp_path: Path) -> None:
    with by_file(guarded, tmp_path / "token", "token-1") as client:
        client.runs.get(*RUN)
        guarded.logins = 1
        guarded.expire_tokens()

        with pytest.raises(errors.AirflowAuthError):
            client.runs.get(*RUN)

    assert len(guarded.calls) == 2


@pytest.mark.parametrize("gone", ["missing", "empty", "binary"])
def test_while_the_file_holds_no_token_the_last_one_counts(guarded: ScriptedAirflow, tmp_path: Path, gone: str) -> None:
    file = tmp_path / "token"
    with by_file(guarded, file, "token-1") as client:
        client.runs.get(*RUN)
        file.unlink() if gone == "missing" else file.write_bytes(b"" if gone == "empty" else b"\xff\x00")

        assert client.runs.get(*RUN).state == "queued"

    assert guarded.last().token == 1


def test_without_any_token_in_the_file_nothing_is_sent(guarded: ScriptedAirflow, tmp_path: Path) -> None:
    with by_file(guarded, tmp_path / "token", "") as client:
        with pytest.raises(errors.AirflowUnavailableError, match="AIRFLOW_TOKEN_FILE holds no token") as nothing:
            client.runs.get(*RUN)
        assert (nothing.value.sent, guarded.requests) == (False, [])

        (tmp_path / "token").write_text("token-1")
        assert client.runs.get(*RUN).state == "queued"


def test_a_file_that_is_rotated_under_load_fails_no_call(guarded: ScriptedAirflow, tmp_path: Path) -> None:
    """The old token is refused as soon as the new one is in the file. No call sees more than one rotation."""
    file = tmp_path / "token"
    with by_file(guarded, file, "token-1") as client, ThreadPoolExecutor(8) as pool:
        batches: list[list[Future[DagRun]]] = [[]]
        for number in range(2, 22):
            batches.append([pool.submit(client.runs.get, *RUN) for _ in range(20)])
            states = [answer.result(60).state for answer in batches.pop(0)]
            assert states == ["queued"] * len(states)
            (tmp_path / "next").write_text(f"token-{number}")
            (tmp_path / "next").replace(file)
            guarded.logins = number - 1
            guarded.expire_tokens()

        assert [answer.result(60).state for answer in batches[0]] == ["queued"] * 20

    assert guarded.last().token == 21


# --- Headers and paths ----------------------------------------------------------------------------------------


def test_extra_headers_are_sent_with_every_request_and_do_not_replace_ours(airflow: ScriptedAirflow) -> None:
    airflow.runs[RUN] = run_json(*RUN)
    headers = (("X-Team", "data"), ("Accept", "text/html"))

    with AirflowClient(Access(base_url=airflow.url, way=ADMIN, headers=headers)) as client:
        client.runs.get(*RUN)

    assert {request.headers["X-Team"] for request in airflow.requests} == {"data"}
    assert airflow.last().headers["Authorization"] == "Bearer token-1"


@pytest.mark.parametrize("end", ["", "/"])
def test_an_airflow_below_a_path_is_signed_in_to_and_asked_there(end: str) -> None:
    with ScriptedAirflow(api="/team-1/api/v2") as airflow:
        airflow.pages["POST", "/team-1/auth/token"] = lambda _: Reply(201, {"access_token": "token-1"})
        airflow.runs[RUN] = run_json(*RUN)
        airflow.answers["GET", "/dags/etl/tasks"] = {"tasks": []}

        with AirflowClient(Access(base_url=f"{airflow.url}/team-1{end}", way=ADMIN)) as client:
            assert client.runs.get(*RUN).state == "queued"
            assert client.dags.tasks("etl") == []

        assert {request.path.split("/")[1] for request in airflow.requests} == {"team-1"}


# --- TLS and proxy --------------------------------------------------------------------------------------------


def test_an_airflow_with_a_private_certificate_is_trusted_by_its_authority_alone(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with ScriptedAirflow(tls=authority.server()) as airflow:
        other = Authority(tmp_path, "other").file
        for ca_file in ("", str(other)):
            stranger = AirflowClient(Access(base_url=airflow.url, way=ADMIN, ca_file=ca_file))
            with stranger, pytest.raises(errors.AirflowUnavailableError, match=r"^no answer from Airflow: SSLError$"):
                stranger.version()
        assert airflow.requests == []

        with AirflowClient(Access(base_url=airflow.url, way=ADMIN, ca_file=str(authority.file))) as client:
            assert client.version() == "3.3.2"


@pytest.mark.parametrize("in_one_file", [False, True])
def test_an_airflow_that_asks_for_a_client_certificate_gets_it(tmp_path: Path, in_one_file: bool) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("svops")
    if in_one_file:
        certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    shown: dict[str, Any] = {"client_cert": str(certificate), "client_key": "" if in_one_file else str(key)}
    with ScriptedAirflow(tls=authority.server(asks_clients=True)) as airflow:
        trusting: dict[str, Any] = {"base_url": airflow.url, "way": ADMIN, "ca_file": str(authority.file)}
        with AirflowClient(Access(**trusting)) as stranger, pytest.raises(errors.AirflowUnavailableError):
            stranger.version()

        with AirflowClient(Access(**trusting, **shown)) as client:
            assert client.version() == "3.3.2"


def test_everything_goes_through_the_proxy_also_to_the_token_endpoint(airflow: ScriptedAirflow) -> None:
    """The scripted server takes requests for every host, as a proxy does."""
    airflow.is_guarded = True
    airflow.pages["POST", "/token"] = _token_of(airflow)
    way = OAuth2(token_url="http://provider.invalid/token", client_id="svops", client_secret="s")

    with AirflowClient(Access(base_url="http://airflow.invalid/", way=way, proxy=airflow.url)) as client:
        assert client.version() == "3.3.2"

    assert [request.headers["Host"] for request in airflow.requests][:2] == ["provider.invalid", "airflow.invalid"]


def _token_of(airflow: ScriptedAirflow) -> Callable[[Request], Reply]:
    return lambda _: Reply(200, {"access_token": "token-1", "token_type": "Bearer"})


# --- User and password ----------------------------------------------------------------------------------------


def test_a_token_for_user_and_password_that_has_ended_is_not_sent(
    airflow: ScriptedAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    airflow.runs[RUN] = run_json(*RUN)
    answers = iter([_signed_in(airflow, 1000), _signed_in(airflow, 3600)])
    airflow.pages["POST", "/auth/token"] = lambda _: next(answers)

    with AirflowClient(Access(base_url=airflow.url, way=ADMIN)) as client:
        client.runs.get(*RUN)
        ahead = time.time() + 1001
        monkeypatch.setattr("workflows.airflow.login.time.time", lambda: ahead)
        client.runs.get(*RUN)

    asked = [request.token for request in airflow.requests if request.path.startswith("/api/v2/dags")]
    assert asked == [1, 2]


def test_a_token_that_is_due_and_cannot_be_renewed_is_sent_until_it_ends(
    airflow: ScriptedAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    airflow.runs[RUN] = run_json(*RUN)
    answers = iter([_signed_in(airflow, 1000), Reply(503, b"busy"), _signed_in(airflow, 3600)])
    airflow.pages["POST", "/auth/token"] = lambda _: next(answers)

    with AirflowClient(Access(base_url=airflow.url, way=ADMIN)) as client:
        client.runs.get(*RUN)
        ahead = time.time() + 900
        monkeypatch.setattr("workflows.airflow.login.time.time", lambda: ahead)
        client.runs.get(*RUN)
        client.runs.get(*RUN)

    asked = [request.token for request in airflow.requests if request.path.startswith("/api/v2/dags")]
    assert asked == [1, 1, 2]


def _signed_in(airflow: ScriptedAirflow, seconds: float) -> Reply:
    airflow.logins += 1
    token = _jwt(time.time() + seconds).removesuffix("s") + f"token-{airflow.logins}"
    return Reply(201, {"access_token": token})


# --- Client credentials ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_client_credentials_are_asked_for_as_the_standard_says(airflow: ScriptedAirflow, method: str) -> None:
    airflow.pages["POST", "/token"] = _token_of(airflow)
    way = OAuth2(
        token_url=f"{airflow.url}/token",
        client_id="svops",
        client_secret="s3cret",
        scope="api://airflow/.default",
        audience="https://airflow.example.com",
        method=method,
    )

    with AirflowClient(Access(base_url=airflow.url, way=way)) as client:
        client.version()

    asked = airflow.requests[0]
    in_body = {"client_id": "svops", "client_secret": "s3cret"} if method == "client_secret_post" else {}
    assert asked.body == {
        "grant_type": "client_credentials",
        "scope": "api://airflow/.default",
        "audience": "https://airflow.example.com",
        **in_body,
    }
    basic = "Basic c3ZvcHM6czNjcmV0" if method == "client_secret_basic" else None
    assert asked.headers.get("Authorization") == basic


def test_an_airflow_with_the_keycloak_auth_manager_gives_its_own_token(airflow: ScriptedAirflow) -> None:
    """The shape of apache-airflow-providers-keycloak: JSON, and 201."""
    airflow.runs[RUN] = run_json(*RUN)
    airflow.pages["POST", "/team-1/auth/token"] = lambda _: Reply(201, {"access_token": "token-1"})
    airflow.api = "/team-1/api/v2"
    way = OAuth2(client_id="svops", client_secret="s3cret", method="airflow")

    with AirflowClient(Access(base_url=f"{airflow.url}/team-1/", way=way)) as client:
        assert client.runs.get(*RUN).state == "queued"

    assert airflow.requests[0].body == {
        "grant_type": "client_credentials",
        "client_id": "svops",
        "client_secret": "s3cret",
    }


@pytest.mark.parametrize(
    ("own", "carried", "end"),
    [(3600, 300, 300), (300, 3600, 300), (300, None, 300), (None, 300, 300), (None, None, None)],
)
def test_a_token_that_carries_another_ends_with_the_first_of_both(
    own: int | None, carried: int | None, end: int | None
) -> None:
    inner = {} if carried is None else {"access_token": _jwt(carried)}

    assert bearer(_jwt(own, **inner), now=1).expires_at == end


@pytest.mark.parametrize(
    ("begin", "end", "here"),
    [(990, 1300, 1300), (1500, 1800, 1300), (100, 400, 1300)],
    ids=["the clocks agree", "ours is behind", "ours is ahead"],
)
def test_a_clock_that_differs_moves_the_end_of_a_token_along(begin: int, end: int, here: int) -> None:
    assert bearer(_jwt(end, iat=begin), now=1000).expires_at == here


def test_a_token_that_has_ended_when_it_is_given_says_no_end() -> None:
    assert bearer(_jwt(400), now=1000).expires_at is None


def test_a_token_that_only_looks_like_a_json_web_token_says_no_end() -> None:
    assert [bearer(text, now=1).expires_at for text in ("a.b.c", "a.W10.c", "a.!!!.c", "x")] == [None] * 4


def _jwt(end: float | None, **claims: object) -> str:
    body = json.dumps(claims | ({} if end is None else {"exp": end}))
    return f"h.{base64.urlsafe_b64encode(body.encode()).decode().rstrip('=')}.s"


def test_a_client_that_keycloak_refuses_is_an_auth_error(airflow: ScriptedAirflow) -> None:
    airflow.pages["POST", "/auth/token"] = lambda _: Reply(403, {"detail": "Invalid credentials: s3cret"})
    way = OAuth2(client_id="svops", client_secret="s3cret", method="airflow")

    with (
        AirflowClient(Access(base_url=airflow.url, way=way)) as client,
        pytest.raises(errors.AirflowAuthError, match=r"^Airflow's /auth/token refuses SVOps: HTTP 403$"),
    ):
        client.version()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("invalid_client", "the token endpoint refuses SVOps: invalid_client"),
        ("s3cret is wrong", "the token endpoint refuses SVOps: an error without a known code"),
    ],
)
def test_a_client_that_the_provider_refuses_is_an_auth_error(
    airflow: ScriptedAirflow, error: str, message: str
) -> None:
    airflow.pages["POST", "/token"] = lambda _: Reply(401, {"error": error, "error_description": "s3cret is wrong"})
    way = OAuth2(token_url=f"{airflow.url}/token", client_id="svops", client_secret="s3cret")

    with (
        AirflowClient(Access(base_url=airflow.url, way=way)) as client,
        pytest.raises(errors.AirflowAuthError) as refused,
    ):
        client.version()

    assert (refused.value.message, airflow.calls) == (message, [])


# --- The pace -------------------------------------------------------------------------------------------------


class Time:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_requests_at_once_get_evenly_spaced_moments() -> None:
    time = Time()
    pace = OwnPace(4, clock=lambda: time.now, sleep=time.sleep)

    for _ in range(4):
        pace.wait(3)
    time.now += 10
    pace.wait(3)

    assert time.slept == [0.25, 0.25, 0.25]


def test_a_request_whose_moment_is_too_far_away_is_refused_at_once_and_takes_none() -> None:
    time = Time()
    pace = OwnPace(1, clock=lambda: time.now, sleep=lambda _: None)
    pace.wait(1.5)
    pace.wait(1.5)

    for _ in range(3):
        with pytest.raises(errors.AirflowBusyError, match=r"^too many requests to Airflow wait for their turn$"):
            pace.wait(1.5)
    time.now += 1
    pace.wait(1.5)
