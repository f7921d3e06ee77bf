"""What the processes of SVOps share on their way to Airflow, in a real Redis: credentials and the pace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
from pytest_django import Settings

from rest.sealing import unseal
from workflows import gateway, way_in
from workflows.airflow import Access, AirflowClient, errors
from workflows.airflow.access import Command, Google, Mwaa, OAuth2, Password, StaticToken
from workflows.airflow.credentials import Credentials, Keeper
from workflows.airflow.tests.scripted import Reply, Request, ScriptedAirflow, run_json
from workflows.airflow.ways import source
from workflows.naming import DEFAULT

pytestmark = pytest.mark.servers

RUN = ("etl", "svops__1")


class TokenEndpoint:
    """Of an Airflow that asks everybody for a token."""

    def __init__(self, airflow: ScriptedAirflow) -> None:
        self.asked = 0
        self.lifetime = 1000
        self.url = f"{airflow.url}/token"
        self._airflow = airflow
        airflow.is_guarded = True
        airflow.runs[RUN] = run_json(*RUN)
        airflow.pages["POST", "/token"] = self._answer

    def _answer(self, request: Request) -> Reply:
        self.asked += 1
        self._airflow.logins += 1
        return Reply(200, {"access_token": f"token-{self._airflow.logins}", "expires_in": self.lifetime})


@pytest.fixture
def scripted() -> Iterator[ScriptedAirflow]:
    with ScriptedAirflow() as server:
        yield server


@pytest.fixture
def endpoint(scripted: ScriptedAirflow) -> TokenEndpoint:
    return TokenEndpoint(scripted)


@pytest.fixture
def access(endpoint: TokenEndpoint, scripted: ScriptedAirflow) -> Access:
    way = OAuth2(token_url=endpoint.url, client_id="svops", client_secret="s3cret")
    return Access(base_url=scripted.url, way=way, token_timeout=30)


@pytest.fixture
def no_redis(settings: Settings, unused_tcp_port: int) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{unused_tcp_port}/0"


@pytest.fixture(autouse=True)
def _no_connection_is_left() -> Iterator[None]:
    yield
    while Process.clients:
        Process.clients.pop().close()


class Process:
    """A client with what a process has of its own; the rest is in Redis."""

    clients: ClassVar[list[AirflowClient]] = []

    def __init__(self, access: Access, *, ahead: float = 0.0) -> None:
        self.ahead = ahead
        store = way_in.SharedCredentials(access)
        keeper = Keeper(source(access), limit=90, store=store, clock=lambda: time.time() + self.ahead)
        self.client = AirflowClient(access, keeper=keeper)
        self.clients.append(self.client)

    def ask(self) -> str:
        return self.client.runs.get(*RUN).state


# --- Credentials ----------------------------------------------------------------------------------------------


def test_processes_that_start_at_once_ask_for_one_token(access: Access, endpoint: TokenEndpoint) -> None:
    with ThreadPoolExecutor(6) as pool:
        states = list(pool.map(lambda _: Process(access).ask(), range(6)))

    assert states == ["queued"] * 6
    assert endpoint.asked == 1


def test_one_process_renews_a_token_that_is_due_and_the_others_take_it(
    access: Access, endpoint: TokenEndpoint, scripted: ScriptedAirflow
) -> None:
    first, second = Process(access), Process(access)
    first.ask()
    second.ask()

    endpoint.lifetime = 1_000_000
    first.ahead = second.ahead = 900
    first.ask()
    _until(lambda: endpoint.asked == 2)
    _until(lambda: first.ask() == "queued" and scripted.last().token == 2)
    _until(lambda: second.ask() == "queued" and scripted.last().token == 2)

    assert endpoint.asked == 2


def test_a_token_that_is_refused_is_renewed_once_for_all_processes(
    access: Access, endpoint: TokenEndpoint, scripted: ScriptedAirflow
) -> None:
    processes = [Process(access) for _ in range(4)]
    for process in processes:
        process.ask()
    scripted.expire_tokens()

    with ThreadPoolExecutor(4) as pool:
        states = list(pool.map(Process.ask, processes))

    assert states == ["queued"] * 4
    assert endpoint.asked == 2


def test_shared_credentials_are_sealed_and_end_with_the_token(access: Access, endpoint: TokenEndpoint) -> None:
    Process(access).ask()

    store = way_in.SharedCredentials(access)
    sealed = store._redis.get(store._name).decode()
    assert "token-1" not in sealed
    assert '"Authorization": "Bearer token-1"' in unseal(sealed)
    assert 900_000 < store._redis.pttl(store._name) <= 1_000_000


@pytest.mark.parametrize("left", ["nonsense", "gAAAAAB", ""])
def test_what_cannot_be_read_in_redis_is_as_good_as_nothing(access: Access, endpoint: TokenEndpoint, left: str) -> None:
    store = way_in.SharedCredentials(access)
    store._redis.set(store._name, left)

    assert Process(access).ask() == "queued"

    assert endpoint.asked == 1
    read = store.read()
    assert read is not None
    assert read.headers == {"Authorization": "Bearer token-1"}


def test_a_secret_that_was_changed_gets_a_token_of_its_own(access: Access, endpoint: TokenEndpoint) -> None:
    assert isinstance(access.way, OAuth2)
    changed = OAuth2(token_url=access.way.token_url, client_id="svops", client_secret="n3w")
    Process(access).ask()

    Process(Access(base_url=access.base_url, way=changed)).ask()

    assert endpoint.asked == 2


def test_without_redis_each_process_has_its_own_token(
    access: Access, endpoint: TokenEndpoint, scripted: ScriptedAirflow, no_redis: None
) -> None:
    first, second = Process(access), Process(access)

    assert [first.ask(), second.ask(), first.ask()] == ["queued"] * 3
    scripted.expire_tokens()
    assert [first.ask(), second.ask()] == ["queued"] * 2

    assert endpoint.asked == 4


def test_a_process_that_dies_while_it_renews_holds_up_the_others_for_a_while_only(
    access: Access, endpoint: TokenEndpoint
) -> None:
    hasty = Access(base_url=access.base_url, way=access.way, token_timeout=0.5)
    dead = way_in.SharedCredentials(hasty).turn()
    dead.__enter__()

    assert Process(hasty).ask() == "queued"

    assert endpoint.asked == 1
    dead.__exit__(None, None, None)


# --- The pace -------------------------------------------------------------------------------------------------


def paced(base_url: str, per_second: float) -> Access:
    way = Password(username="admin", password="admin")
    return Access(base_url=base_url, way=way, requests_per_second=per_second)


def test_processes_share_one_pace(scripted: ScriptedAirflow) -> None:
    access = paced(scripted.url, 20)
    paces = [way_in.SharedPace(access) for _ in range(4)]

    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda number: paces[number % 4].wait(60), range(21)):
            pass

    assert time.monotonic() - began >= 1.0


def test_a_moment_that_is_too_far_away_is_refused_and_not_taken(scripted: ScriptedAirflow) -> None:
    pace = way_in.SharedPace(paced(scripted.url, 0.1))
    pace.wait(0)

    for _ in range(3):
        with pytest.raises(errors.AirflowBusyError, match=r"^too many requests to Airflow wait for their turn$"):
            pace.wait(3)

    assert float(pace._redis.get(pace._name)) - time.time() < 12


def test_without_redis_a_process_keeps_the_pace_alone(no_redis: None, scripted: ScriptedAirflow) -> None:
    pace = way_in.SharedPace(paced(scripted.url, 0.1))
    pace.wait(0)

    with pytest.raises(errors.AirflowBusyError):
        pace.wait(3)


def test_requests_beyond_the_pace_are_an_error_of_our_own_and_ask_nothing(
    scripted: ScriptedAirflow, settings: Settings
) -> None:
    scripted.runs[RUN] = run_json(*RUN)
    access = paced(scripted.url, 0.2)
    pace = way_in.pace(access)
    assert pace is not None
    pace.wait(0)

    with AirflowClient(access, pace=pace) as client, pytest.raises(errors.AirflowBusyError):
        client.version()

    assert scripted.requests == []


# --- From the settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "way"),
    [
        ({}, Password(username="ada", password="secret")),
        ({"AIRFLOW_AUTH": "token", "AIRFLOW_TOKEN": "abc"}, StaticToken(value="abc")),
        (
            {"AIRFLOW_AUTH": "token", "AIRFLOW_TOKEN": "abc", "AIRFLOW_TOKEN_FILE": "/run/token"},
            StaticToken(file="/run/token"),
        ),
        (
            {
                "AIRFLOW_AUTH": "oauth2",
                "AIRFLOW_OAUTH2_TOKEN_URL": "https://id.example.com/token",
                "AIRFLOW_OAUTH2_CLIENT_ID": "svops",
                "AIRFLOW_OAUTH2_CLIENT_SECRET": "secret",
                "AIRFLOW_OAUTH2_SCOPE": "airflow",
                "AIRFLOW_OAUTH2_AUDIENCE": "there",
                "AIRFLOW_OAUTH2_METHOD": "client_secret_post",
            },
            OAuth2(
                token_url="https://id.example.com/token",
                client_id="svops",
                client_secret="secret",
                scope="airflow",
                audience="there",
                method="client_secret_post",
            ),
        ),
        (
            {"AIRFLOW_AUTH": "google", "AIRFLOW_GOOGLE_CREDENTIALS": "/key", "AIRFLOW_GOOGLE_AUDIENCE": "there"},
            Google(credentials_file="/key", audience="there"),
        ),
        (
            {"AIRFLOW_AUTH": "mwaa", "AIRFLOW_MWAA_ENVIRONMENT": "prod", "AIRFLOW_MWAA_REGION": "eu-west-1"},
            Mwaa(environment="prod", region="eu-west-1"),
        ),
        (
            {
                "AIRFLOW_AUTH": "mwaa",
                "AIRFLOW_MWAA_ENVIRONMENT": "prod",
                "AIRFLOW_MWAA_METHOD": "invoke_rest_api",
            },
            Mwaa(environment="prod", method="invoke_rest_api"),
        ),
        (
            {"AIRFLOW_AUTH": "command", "AIRFLOW_TOKEN_COMMAND": ["vault", "read"], "AIRFLOW_TOKEN_COMMAND_ENV": ["V"]},
            Command(argv=("vault", "read"), environment=("V",)),
        ),
    ],
    ids=["password", "token", "token file", "oauth2", "google", "mwaa", "mwaa invoked", "command"],
)
def test_the_settings_describe_the_way_in(settings: Settings, given: dict[str, Any], way: object) -> None:
    settings.AIRFLOW_USERNAME, settings.AIRFLOW_PASSWORD = "ada", "secret"
    settings.AIRFLOW_URL = "https://airflow.example.com/team-1"
    settings.AIRFLOW_HEADERS = {"X-Team": "data"}
    for name, value in given.items():
        setattr(settings, name, value)

    access = way_in.access(DEFAULT)

    assert access.way == way
    assert (access.base_url, access.headers) == ("https://airflow.example.com/team-1", (("X-Team", "data"),))
    assert hash(access) == hash(way_in.access(DEFAULT))


@pytest.mark.parametrize(("given", "pace"), [(0.0, 10.0), (4.0, 4.0), (50.0, 10.0)])
def test_aws_is_not_called_more_often_than_it_allows(settings: Settings, given: float, pace: float) -> None:
    settings.AIRFLOW_AUTH, settings.AIRFLOW_MWAA_ENVIRONMENT = "mwaa", "prod"
    settings.AIRFLOW_MAX_REQUESTS_PER_SECOND = given
    assert way_in.access(DEFAULT).requests_per_second == given

    settings.AIRFLOW_MWAA_METHOD = "invoke_rest_api"

    access = way_in.access(DEFAULT)
    assert access.requests_per_second == pace
    assert way_in.keeper(access) is None


def test_all_clients_of_a_process_share_their_credentials(
    settings: Settings, scripted: ScriptedAirflow, endpoint: TokenEndpoint
) -> None:
    settings.AIRFLOW_URL, settings.AIRFLOW_AUTH = scripted.url, "oauth2"
    settings.AIRFLOW_OAUTH2_TOKEN_URL = endpoint.url
    settings.AIRFLOW_OAUTH2_CLIENT_ID = settings.AIRFLOW_OAUTH2_CLIENT_SECRET = "svops"
    gateway.pooled_client.cache_clear()

    for purpose in gateway.Purpose:
        for hurried in (True, False):
            assert gateway.client_of(DEFAULT, hurried=hurried, purpose=purpose).runs.get(*RUN).state == "queued"
    gateway.pooled_client.cache_clear()

    assert endpoint.asked == 1


def test_credentials_show_no_secret_of_theirs() -> None:
    shown = repr(Credentials({"Authorization": "Bearer abc"}, fetched_at=1.0, expires_at=2.0))

    assert shown == "Credentials(fetched_at=1.0, expires_at=2.0)"


def _until(holds: Any, *, within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
