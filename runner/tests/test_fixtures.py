"""The parts that the tests get are real ones, and the settings point at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis
import requests
from django.conf import settings

if TYPE_CHECKING:
    from conftest import AirflowServer


def test_the_redis_of_the_settings_is_a_real_one(redis_server: str) -> None:
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        assert client.ping() is True
    assert redis_server == settings.REDIS_URL


@pytest.mark.airflow
def test_the_airflow_of_the_settings_is_healthy_and_holds_the_examples(airflow_server: AirflowServer) -> None:
    login = requests.post(
        f"{settings.AIRFLOW_URL}/auth/token",
        json={"username": settings.AIRFLOW_USERNAME, "password": settings.AIRFLOW_PASSWORD},
        timeout=10,
    )
    token = login.json()["access_token"]
    answer = requests.get(f"{airflow_server.url}/api/v2/dags", headers={"Authorization": f"Bearer {token}"}, timeout=10)

    assert [dag["dag_id"] for dag in answer.json()["dags"]] == [
        "data_processing_pipeline",
        "ml_training_pipeline",
        "simple_workflow_example",
    ]
