from collections.abc import Iterator

import pytest

from workflows.airflow import AirflowClient, Timeout

from .scripted import ScriptedAirflow, by_password


@pytest.fixture
def airflow() -> Iterator[ScriptedAirflow]:
    with ScriptedAirflow() as server:
        yield server


@pytest.fixture
def client(airflow: ScriptedAirflow) -> Iterator[AirflowClient]:
    with AirflowClient(by_password(airflow.url)) as client:
        yield client


@pytest.fixture
def hasty_client(airflow: ScriptedAirflow) -> Iterator[AirflowClient]:
    """A client that waits 0.3 s for a byte and 0.6 s for an answer. It has logged in already."""
    timeout = Timeout(connect=5, read=0.3, total=0.6)
    with AirflowClient(by_password(airflow.url), timeout=timeout) as client:
        airflow.answers["GET", "/dags/warm/tasks"] = {"tasks": []}
        client.dags.tasks("warm")
        airflow.requests.clear()
        yield client


@pytest.fixture
def airflow_2() -> Iterator[ScriptedAirflow]:
    with ScriptedAirflow(api="/api/v1", version="2.11.2") as server:
        yield server


@pytest.fixture
def client_of_2(airflow_2: ScriptedAirflow) -> Iterator[AirflowClient]:
    with AirflowClient(by_password(airflow_2.url)) as client:
        yield client
