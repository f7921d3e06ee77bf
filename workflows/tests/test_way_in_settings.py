"""A way to Airflow that lacks something, or contradicts itself, stops the start with one sentence."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from runner.home import REPOSITORY
from workflows.airflow.access import NAMES
from workflows.airflow.tests.certificates import Authority

OAUTH2 = {
    "AIRFLOW_AUTH": "oauth2",
    "AIRFLOW_OAUTH2_TOKEN_URL": "https://id.example.com/token",
    "AIRFLOW_OAUTH2_CLIENT_ID": "svops",
    "AIRFLOW_OAUTH2_CLIENT_SECRET": "s3cret",
}


def read(monkeypatch: pytest.MonkeyPatch, env: dict[str, str]) -> dict[str, Any]:
    monkeypatch.setenv("AIRFLOW_URL", "https://airflow.example.com/team-1/")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return runpy.run_path(str(REPOSITORY / "svops" / "settings.py"))


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        (
            {"AIRFLOW_AUTH": "magic"},
            f"AIRFLOW_AUTH='magic' must be one of {', '.join(NAMES)}",
        ),
        (
            {"AIRFLOW_AUTH": "token"},
            "AIRFLOW_AUTH=token needs AIRFLOW_TOKEN or AIRFLOW_TOKEN_FILE, which is not set or empty",
        ),
        (
            {"AIRFLOW_AUTH": "token", "AIRFLOW_TOKEN": "a", "AIRFLOW_TOKEN_FILE": __file__},
            "AIRFLOW_TOKEN and AIRFLOW_TOKEN_FILE are both set: one of them is expected",
        ),
        (
            {"AIRFLOW_AUTH": "token", "AIRFLOW_TOKEN_FILE": "/nowhere/token"},
            "AIRFLOW_TOKEN_FILE='/nowhere/token' cannot be read: No such file or directory",
        ),
        (
            {"AIRFLOW_AUTH": "token", "AIRFLOW_TOKEN_FILE": __file__},
            "AIRFLOW_TOKEN must be one line of printable ASCII",
        ),
        *(
            (OAUTH2 | {name: ""}, f"AIRFLOW_AUTH=oauth2 needs {name}, which is not set or empty")
            for name in OAUTH2
            if name != "AIRFLOW_AUTH"
        ),
        (
            OAUTH2 | {"AIRFLOW_URL": ""},
            "AIRFLOW_AUTH=oauth2 needs AIRFLOW_URL, which is not set or empty",
        ),
        (
            OAUTH2 | {"AIRFLOW_OAUTH2_TOKEN_URL": "http://id.example.com/token"},
            "AIRFLOW_OAUTH2_TOKEN_URL='http://id.example.com/token' must start with https:// (http:// only to "
            "localhost)",
        ),
        (
            OAUTH2 | {"AIRFLOW_OAUTH2_METHOD": "none"},
            "AIRFLOW_OAUTH2_METHOD='none' must be one of client_secret_basic, client_secret_post, airflow",
        ),
        (
            {"AIRFLOW_TOKEN": "a"},
            "AIRFLOW_TOKEN or AIRFLOW_TOKEN_FILE is set and AIRFLOW_AUTH is not: AIRFLOW_AUTH=token is expected",
        ),
        (
            {"AIRFLOW_OAUTH2_CLIENT_ID": "svops"},
            "AIRFLOW_OAUTH2_CLIENT_ID is set and AIRFLOW_AUTH is not: AIRFLOW_AUTH=oauth2 is expected",
        ),
        (
            {"AIRFLOW_AUTH": "mwaa"},
            "AIRFLOW_AUTH=mwaa needs AIRFLOW_MWAA_ENVIRONMENT, which is not set or empty",
        ),
        (
            {"AIRFLOW_MWAA_METHOD": "invoke"},
            "AIRFLOW_MWAA_METHOD='invoke' must be one of web_token, invoke_rest_api",
        ),
        (
            {"AIRFLOW_AUTH": "google", "AIRFLOW_GOOGLE_CREDENTIALS": "/nowhere/key.json"},
            "AIRFLOW_GOOGLE_CREDENTIALS='/nowhere/key.json' cannot be read: No such file or directory",
        ),
        (
            {"AIRFLOW_AUTH": "command"},
            "AIRFLOW_AUTH=command needs AIRFLOW_TOKEN_COMMAND, which is not set or empty",
        ),
        (
            {"AIRFLOW_AUTH": "command", "AIRFLOW_TOKEN_COMMAND": "no-such-program --token s3cret"},
            "AIRFLOW_TOKEN_COMMAND names the program 'no-such-program', which is not there or cannot be run",
        ),
        (
            {"AIRFLOW_AUTH": "command", "AIRFLOW_TOKEN_COMMAND": "sh -c 's3cret"},
            "AIRFLOW_TOKEN_COMMAND is not a command: a quotation mark has no end",
        ),
        (
            {"AIRFLOW_URL": "https://airflow.example.com/?key=s3cret"},
            "AIRFLOW_URL must be like https://host/path, without ? and #",
        ),
        (
            {"AIRFLOW_URL": "https://u:s3cret@airflow.example.com/"},
            "AIRFLOW_URL must be like https://host/path, without a user and a password",
        ),
        (
            {"AIRFLOW_URL": "airflow.example.com"},
            "AIRFLOW_URL must be like https://host/path, without ? and #",
        ),
        (
            {"AIRFLOW_PROXY": "socks5://u:s3cret@proxy"},
            "AIRFLOW_PROXY must be like https://host/path, without ? and #",
        ),
        (
            {"AIRFLOW_HEADERS": "X-Key: s3cret"},
            'AIRFLOW_HEADERS must be a JSON object of headers, like {"X-Team": "data"}',
        ),
        (
            {"AIRFLOW_HEADERS": '{"X-Key": "s3cret\\r\\nX-Other: 1"}'},
            'AIRFLOW_HEADERS must be a JSON object of headers, like {"X-Team": "data"}',
        ),
        (
            {"AIRFLOW_HEADERS": '{"X-Key": 1}'},
            'AIRFLOW_HEADERS must be a JSON object of headers, like {"X-Team": "data"}',
        ),
        (
            {"AIRFLOW_HEADERS": '{"authorization": "Bearer s3cret"}'},
            "AIRFLOW_HEADERS sets authorization: what proves who SVOps is comes from AIRFLOW_AUTH",
        ),
        (
            {"AIRFLOW_CA_FILE": "/nowhere/ca.pem"},
            "AIRFLOW_CA_FILE='/nowhere/ca.pem' cannot be read: No such file or directory",
        ),
        (
            {"AIRFLOW_CA_FILE": __file__},
            f"AIRFLOW_CA_FILE={__file__!r} holds no certificate in PEM",
        ),
        (
            {"AIRFLOW_CLIENT_KEY": __file__},
            f"AIRFLOW_CLIENT_CERT is not set: the certificate of the key {__file__!r} is expected",
        ),
        (
            {"AIRFLOW_CLIENT_CERT": __file__},
            f"AIRFLOW_CLIENT_CERT={__file__!r} is no certificate in PEM that has its key, without a password, in "
            f"{__file__!r}",
        ),
        (
            {"AIRFLOW_MAX_REQUESTS_PER_SECOND": "many"},
            "AIRFLOW_MAX_REQUESTS_PER_SECOND='many' is not a number",
        ),
        (
            {"AIRFLOW_MAX_REQUESTS_PER_SECOND": "-1"},
            "AIRFLOW_MAX_REQUESTS_PER_SECOND='-1' must be between 0.1 and 10000, or 0 for no limit",
        ),
    ],
    ids=lambda value: " ".join(f"{n}={v}" for n, v in value.items() if v) if isinstance(value, dict) else "",
)
def test_a_wrong_way_to_airflow_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ImproperlyConfigured) as refused:
        read(monkeypatch, env)

    assert str(refused.value) == sentence
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(("way", "library"), [("google", "google.auth"), ("mwaa", "botocore")])
def test_a_way_whose_library_is_missing_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, way: str, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)

    with pytest.raises(ImproperlyConfigured) as refused:
        read(monkeypatch, {"AIRFLOW_AUTH": way, "AIRFLOW_MWAA_ENVIRONMENT": "prod"})

    assert str(refused.value) == f"AIRFLOW_AUTH={way} needs more libraries: install those of requirements-ways.txt"


def test_a_key_with_a_password_stops_the_start_and_is_not_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificate, key = Authority(tmp_path).issue("svops", password="closed")

    with pytest.raises(ImproperlyConfigured, match="is no certificate in PEM that has its key, without a password"):
        read(monkeypatch, {"AIRFLOW_CLIENT_CERT": str(certificate), "AIRFLOW_CLIENT_KEY": str(key)})


def test_everything_that_is_right_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("svops")
    (tmp_path / "secret").write_text("s3cret\n")
    env = OAUTH2 | {
        "AIRFLOW_OAUTH2_CLIENT_SECRET": "",
        "AIRFLOW_OAUTH2_CLIENT_SECRET_FILE": str(tmp_path / "secret"),
        "AIRFLOW_HEADERS": '{"X-Team": " data "}',
        "AIRFLOW_CA_FILE": str(authority.file),
        "AIRFLOW_CLIENT_CERT": str(certificate),
        "AIRFLOW_CLIENT_KEY": str(key),
        "AIRFLOW_PROXY": "http://u:p@proxy.example.com:3128",
        "AIRFLOW_MAX_REQUESTS_PER_SECOND": "10",
    }

    settings = read(monkeypatch, env)

    assert settings["AIRFLOW_URL"] == "https://airflow.example.com/team-1/"
    assert settings["AIRFLOW_OAUTH2_CLIENT_SECRET"] == "s3cret"
    assert settings["AIRFLOW_HEADERS"] == {"X-Team": "data"}
    assert settings["AIRFLOW_CA_FILE"] == str(authority.file)
    assert (settings["AIRFLOW_CLIENT_CERT"], settings["AIRFLOW_CLIENT_KEY"]) == (str(certificate), str(key))
    assert settings["AIRFLOW_MAX_REQUESTS_PER_SECOND"] == 10


def test_a_command_is_split_as_a_shell_does_and_no_shell_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"AIRFLOW_AUTH": "command", "AIRFLOW_TOKEN_COMMAND": "sh -c 'echo \"$TOKEN\"' # 1"}

    assert read(monkeypatch, env)["AIRFLOW_TOKEN_COMMAND"] == ["sh", "-c", 'echo "$TOKEN"', "#", "1"]
