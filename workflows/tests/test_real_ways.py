"""Ways in against the real thing: an identity provider, and an Airflow whose tokens end."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import pytest
import requests
from pytest_django import Settings

from accounts.tests.provider import CLIENT_ID, CLIENT_SECRET, Provider
from workflows import way_in
from workflows.airflow import Access, AirflowClient, Timeout, errors
from workflows.airflow.access import OAuth2
from workflows.airflow.ways import source
from workflows.naming import DEFAULT

if TYPE_CHECKING:
    from conftest import AirflowServer

DAG = "simple_workflow_example"


# --- An identity provider -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.stop()


def client_credentials(
    provider: Provider, *, secret: str = CLIENT_SECRET, method: str = "client_secret_basic"
) -> Access:
    way = OAuth2(
        token_url=f"{provider.issuer}/oauth/token",
        client_id=CLIENT_ID,
        client_secret=secret,
        scope="openid",
        method=method,
    )
    return Access(base_url="http://127.0.0.1:1", way=way, token_timeout=60)


def test_a_provider_gives_a_token_that_it_knows_and_says_when_it_ends(provider: Provider) -> None:
    found = source(client_credentials(provider)).fetch()

    token = found.headers["Authorization"].removeprefix("Bearer ")
    known = requests.post(
        f"{provider.issuer}/oauth/introspect", {"token": token}, auth=(CLIENT_ID, CLIENT_SECRET), timeout=60
    ).json()
    assert (known["active"], known["client_id"]) == (True, CLIENT_ID)
    assert found.expires_at is not None
    assert abs(found.expires_at - known["exp"]) < 5


@pytest.mark.parametrize("wrong", [{"secret": "another"}, {"method": "client_secret_post"}], ids=str)
def test_a_provider_refuses_a_wrong_secret_and_a_method_that_the_client_does_not_have(
    provider: Provider, wrong: dict[str, str]
) -> None:
    with pytest.raises(errors.AirflowAuthError, match=r"^the token endpoint refuses SVOps: invalid_client$"):
        source(client_credentials(provider, **wrong)).fetch()


# --- Airflow --------------------------------------------------------------------------------------------------


class Tokens:
    """Of one Airflow, which revokes a token when its bearer signs out."""

    def __init__(self, server: AirflowServer) -> None:
        self._url = server.url
        self._user = {"username": server.username, "password": server.password}

    def new(self) -> str:
        answer = requests.post(f"{self._url}/auth/token", json=self._user, timeout=60)
        return str(answer.json()["access_token"])

    def revoke(self, token: str) -> int:
        """Return what Airflow answers to the token from now on."""
        bearer = {"Authorization": f"Bearer {token}"}
        requests.get(f"{self._url}/api/v2/auth/logout", headers=bearer, timeout=120, allow_redirects=False)
        return requests.get(f"{self._url}/api/v2/dags?limit=1", headers=bearer, timeout=120).status_code


@pytest.mark.airflow
@pytest.mark.skipif(os.environ.get("SVOPS_TEST_AIRFLOW") == "2", reason="2.11 has no such tokens")
def test_a_token_file_that_is_rotated_under_load_fails_no_run(
    airflow_server: AirflowServer, settings: Settings, tmp_path: Path
) -> None:
    """Every second time the file looks unchanged, so that only Airflow's refusal leads to the new token."""
    tokens, file = Tokens(airflow_server), tmp_path / "token"
    file.write_text(tokens.new())
    settings.AIRFLOW_URL, settings.AIRFLOW_AUTH = airflow_server.url, "token"
    settings.AIRFLOW_TOKEN_FILE = str(file)
    done = Event()
    started: list[str] = []

    def work(client: AirflowClient) -> None:
        while not done.is_set():
            run_id = f"rotated_{uuid.uuid4().hex}"
            # On SQLite a busy Airflow now and then answers 500. The same again is no failure.
            with suppress(errors.AirflowUnavailableError):
                client.runs.trigger(DAG, dag_run_id=run_id, conf={"processing_time": 0})
                started.append(client.runs.get(DAG, run_id).dag_run_id)

    timeout = Timeout(read=120, total=120)
    with AirflowClient(way_in.access(DEFAULT), timeout=timeout) as client, ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(work, client) for _ in range(3)]
        answers = []
        for is_shown in (True, False, True, False):
            before, old = file.stat(), file.read_text()
            _replace(file, tokens.new())
            if not is_shown:
                os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
            answers.append(tokens.revoke(old))
            _until_more(started, workers)
        done.set()
        for worker in workers:
            worker.result(300)
        found = {run.dag_run_id for run in client.runs.list(dag_ids={DAG})}

    assert set(answers) <= {401, 403}
    assert set(started) <= found


def _replace(file: Path, token: str) -> None:
    """Write into the same file, so that its number and size stay."""
    with file.open("r+") as whole:
        whole.write(token)


def _until_more(started: list[str], workers: list[Future[None]]) -> None:
    """Wait until each worker has had its turn with what holds now."""
    wanted, deadline = len(started) + 2 * len(workers), time.monotonic() + 120
    while len(started) < wanted and not any(worker.done() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
