"""Which variables of the operator's environment reach SVOps' processes, by the way to Airflow."""

from __future__ import annotations

import os
from pathlib import Path

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


FURTHER = """
- {name: a, auth: mwaa, password: "${VAULT_TOKEN}"}
- {name: b, auth: command, token_command_env: [VAULT_ADDR]}
"""


@pytest.mark.parametrize(
    ("text", "processes", "loading"),
    [
        (FURTHER, {"AWS_ROLE_ARN", "VAULT_ADDR"}, {"VAULT_TOKEN"}),
        ("[]", set(), set()),
        ("no list", set(), set()),
        ("- [", set(), set()),
        ("- 1", set(), set()),
        ("- {token_command_env: VAULT_ADDR}", set(), set()),
        ("- {token_command_env: [1]}", set(), set()),
    ],
)
def test_further_airflows_get_what_their_file_names_and_only_its_loading_sees_their_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, processes: set[str], loading: set[str]
) -> None:
    for name, value in OPERATOR.items():
        monkeypatch.setitem(os.environ, name, value)
    (tmp_path / "airflows.yaml").write_text(text)
    monkeypatch.setattr("svops.settings.AIRFLOWS_FILE", str(tmp_path / "airflows.yaml"))

    assert OPERATOR.keys() & environment.of_svops().keys() == processes
    assert environment.of_airflows_file().keys() == loading | {"AIRFLOWS_FILE"}
    assert OPERATOR.keys() & environment.of_airflow().keys() == set()


def test_without_a_file_there_is_nothing_to_load() -> None:
    assert environment.of_airflows_file() == {}
