"""Which variables of the operator's environment reach SVOps' processes, by the way to Airflow."""

from __future__ import annotations

import os

import pytest

from runner import environment

OPERATOR = {
    "AWS_ROLE_ARN": "arn:aws:iam::1:role/svops",
    "GOOGLE_APPLICATION_CREDENTIALS": "/key.json",
    "VAULT_ADDR": "https://vault.example.com",
    "VAULT_TOKEN": "s3cret",
}


@pytest.mark.parametrize(
    ("way", "listed", "seen"),
    [
        ("password", [], set()),
        ("token", [], set()),
        ("oauth2", [], set()),
        ("mwaa", [], {"AWS_ROLE_ARN"}),
        ("google", [], {"GOOGLE_APPLICATION_CREDENTIALS"}),
        ("command", ["VAULT_ADDR"], {"VAULT_ADDR"}),
    ],
)
def test_a_way_to_airflow_sees_what_its_library_looks_for_and_no_task_sees_it(
    monkeypatch: pytest.MonkeyPatch, way: str, listed: list[str], seen: set[str]
) -> None:
    for name, value in OPERATOR.items():
        monkeypatch.setitem(os.environ, name, value)
    monkeypatch.setattr("svops.settings.AIRFLOW_AUTH", way)
    monkeypatch.setattr("svops.settings.AIRFLOW_TOKEN_COMMAND_ENV", listed)

    assert OPERATOR.keys() & environment.of_svops().keys() == seen
    assert OPERATOR.keys() & environment.of_airflow().keys() == set()
