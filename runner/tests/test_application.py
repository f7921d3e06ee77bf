"""What `make up` prints of the first administrator, on a database of its own."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from runner.application import Application
from runner.errors import StartError
from runner.home import Home
from runner.ports import free_port

USERNAMES = "SELECT username FROM accounts_user"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SVOPS_ADMIN_USERNAME", "SVOPS_ADMIN_PASSWORD", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


def prepared(folder: Path) -> Application:
    home, database = Home(folder), folder / "svops.sqlite3"
    env = {"SVOPS_HOME": str(folder), "DJANGO_SETTINGS_MODULE": "svops.settings"}
    application = Application(home, host="127.0.0.1", port=free_port(), env=env, database=database)
    application.prepare()
    return application


def test_a_name_that_is_given_after_the_first_start_is_not_printed_because_nobody_has_it(
    tmp_path: Path, names: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepared(tmp_path).credentials
    monkeypatch.setenv("SVOPS_ADMIN_USERNAME", "operator")

    second = prepared(tmp_path).credentials

    password = (tmp_path / "secrets" / "admin_password").read_text()
    assert first == f"admin / {password}"
    assert second == f"admin, with the password in {tmp_path / 'secrets' / 'admin_password'}"
    with closing(sqlite3.connect(tmp_path / "svops.sqlite3")) as database:
        assert database.execute(USERNAMES).fetchall() == [("admin",)]


def test_with_a_database_that_others_made_it_says_how_to_create_an_administrator(tmp_path: Path, names: None) -> None:
    prepared(tmp_path)
    (tmp_path / "run" / "first_admin").unlink()

    assert "manage.py createsuperuser" in prepared(tmp_path).credentials


@pytest.mark.parametrize(("username", "printed"), [("ada.b", "ada.b"), ("operator", "operator")])
def test_a_name_with_a_password_that_was_given_is_printed_without_it(
    tmp_path: Path, names: None, monkeypatch: pytest.MonkeyPatch, username: str, printed: str
) -> None:
    monkeypatch.setenv("SVOPS_ADMIN_USERNAME", username)
    monkeypatch.setenv("SVOPS_ADMIN_PASSWORD", "a long enough passphrase")

    credentials = prepared(tmp_path).credentials

    assert credentials == f"{printed}, with the password that was given to it"
    assert os.environ["SVOPS_ADMIN_PASSWORD"] not in credentials


def test_a_database_that_is_gone_is_made_again_although_an_empty_file_is_there(tmp_path: Path, names: None) -> None:
    prepared(tmp_path)
    (tmp_path / "svops.sqlite3").unlink()
    (tmp_path / "svops.sqlite3").touch()

    prepared(tmp_path)

    with closing(sqlite3.connect(tmp_path / "svops.sqlite3")) as database:
        assert database.execute(USERNAMES).fetchall() == [("admin",)]


def test_each_start_loads_further_airflows_and_a_wrong_file_stops_it(
    tmp_path: Path, names: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "airflows.yaml"
    monkeypatch.setattr("svops.settings.AIRFLOWS_FILE", str(file))
    monkeypatch.setenv("PROD_PASSWORD", "s3cret")
    for text in ("[]", "- {name: prod, url: 'https://a.example.com', username: a, password: '${PROD_PASSWORD}'}"):
        file.write_text(text)
        prepared(tmp_path / "home")
    file.write_text("- {name: prod, url: 'https://a.example.com', username: a}")

    with pytest.raises(StartError, match="prod: password: required with auth password"):
        prepared(tmp_path / "home")

    with closing(sqlite3.connect(tmp_path / "home" / "svops.sqlite3")) as database:
        rows = database.execute("SELECT name, is_active FROM workflows_airflowstate ORDER BY id").fetchall()
    assert rows == [("default", 1), ("prod", 1)]
