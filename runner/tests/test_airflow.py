"""The embedded Airflow stands what a busy platform asks of it."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requests
from django.conf import settings

from runner.versions import is_airflow_2

if TYPE_CHECKING:
    from conftest import AirflowServer

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.skipif(is_airflow_2(), reason="the fault is one of Airflow 3"),
]


def test_the_api_does_not_stand_still_while_many_requests_write(airflow_server: AirflowServer) -> None:
    login = {"username": settings.AIRFLOW_USERNAME, "password": settings.AIRFLOW_PASSWORD}
    token = requests.post(f"{airflow_server.url}/auth/token", json=login, timeout=60).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}

    def write(number: int) -> int:
        url, body = f"{airflow_server.url}/api/v2/variables", {"key": f"busy_{number}", "value": "x"}
        return requests.post(url, json=body, headers=headers, timeout=120).status_code

    with ThreadPoolExecutor(8) as threads:
        answers = Counter(threads.map(write, range(80)))

    # One that waits for SQLite's lock in the event loop is 500 after 60 s.
    assert answers == {201: 80}
