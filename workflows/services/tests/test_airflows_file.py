"""A file describes further Airflows. A wrong one changes nothing and says what is wrong, in one sentence."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django import Settings

from accounts.models import AuditEntry, User
from rest.errors import ConflictError
from workflows import services, way_in
from workflows.airflow.access import Command, Mwaa, OAuth2, Password, StaticToken, Way
from workflows.models import Airflow, Dag
from workflows.naming import DEFAULT
from workflows.services.airflows_file import Entry, Loaded, load_airflows, read

pytestmark = pytest.mark.django_db

PROD = """
- name: prod
  url: https://airflow.example.com/team
  username: svops
  password: ${PROD_PASSWORD}
"""


class File:
    """AIRFLOWS_FILE."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, text: str) -> None:
        self.path.write_text(text)


@pytest.fixture
def file(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> File:
    settings.AIRFLOWS_FILE = str(tmp_path / "airflows.yaml")
    monkeypatch.setenv("PROD_PASSWORD", "s3cret")
    monkeypatch.setenv("EMPTY", "")
    Airflow.default()
    return File(tmp_path / "airflows.yaml")


def loaded(text: str, file: File, capsys: pytest.CaptureFixture[str]) -> str:
    """Load this text. Return what the command prints."""
    file.write(text)
    call_command("load_airflows")
    return capsys.readouterr().out.strip()


def names() -> dict[str, bool]:
    """Return the names, and which are active."""
    return dict(Airflow.objects.values_list("name", "is_active"))


@pytest.mark.parametrize(
    ("options", "way"),
    [
        ("{username: svops, password: '${PROD_PASSWORD}'}", Password(username="svops", password="s3cret")),
        ("{username: svops, password: 'a${PROD_PASSWORD}$$z'}", Password(username="svops", password="as3cret$$z")),
        ("{username: svops, password: 'a$${b}'}", Password(username="svops", password="a${b}")),
        ("{username: svops, password_file: TMP/secret}", Password(username="svops", password="from a file")),
        ("{auth: token, token_file: TMP/secret}", StaticToken(file="TMP/secret")),
        (
            "{auth: oauth2, oauth2_method: airflow, oauth2_client_id: svops, oauth2_client_secret_file: TMP/secret}",
            OAuth2(client_id="svops", client_secret="from a file", method="airflow"),
        ),
        (
            "{auth: mwaa, mwaa_environment: prod, mwaa_region: eu-west-1, mwaa_method: invoke_rest_api}",
            Mwaa(environment="prod", region="eu-west-1", method="invoke_rest_api"),
        ),
        (
            "{auth: command, token_command: [sh, -c, 'echo ${PROD_PASSWORD}'], token_command_env: [VAULT_ADDR]}",
            Command(argv=("sh", "-c", "echo s3cret"), environment=("VAULT_ADDR",)),
        ),
    ],
)
def test_every_way_in_can_be_described(
    options: str, way: Way, file: File, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_text("from a file\n")
    text = f"- {{name: prod, url: 'https://airflow.example.com', {options[1:]}"

    assert loaded(text.replace("TMP", str(tmp_path)), file, capsys) == "Airflows added: prod."

    way_in.forget("prod")
    expected = StaticToken(file=f"{tmp_path}/secret") if isinstance(way, StaticToken) else way
    assert way_in.access("prod").way == expected


def test_what_lies_between_is_read_too(file: File, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "headers").write_text('{"X-Team": "data"}')
    more = f"  headers_file: {tmp_path}/headers\n  max_requests_per_second: 10\n  ingest_secret: ${{PROD_PASSWORD}}\n"

    loaded(PROD + more, file, capsys)

    way_in.forget("prod")
    assert way_in.access("prod").headers == (("X-Team", "data"),)
    assert way_in.access("prod").requests_per_second == 10
    assert way_in.ingest_secret("prod") == "s3cret"


def test_secrets_are_sealed_and_not_printed(file: File, capsys: pytest.CaptureFixture[str]) -> None:
    printed = loaded(PROD, file, capsys)

    row = Airflow.objects.get(name="prod")
    assert row.options == {"url": "https://airflow.example.com/team", "username": "svops"}
    assert "s3cret" not in f"{row.secrets}{printed}{list(AuditEntry.objects.values())}"


def test_a_second_time_changes_nothing(file: File, capsys: pytest.CaptureFixture[str]) -> None:
    loaded(PROD, file, capsys)
    before = list(Airflow.objects.order_by("id").values())
    entries = AuditEntry.objects.count()

    assert loaded(PROD, file, capsys) == "The Airflows are as AIRFLOWS_FILE describes them."

    assert list(Airflow.objects.order_by("id").values()) == before
    assert AuditEntry.objects.count() == entries


def test_changed_options_replace_all_of_the_old_ones(file: File, capsys: pytest.CaptureFixture[str]) -> None:
    loaded(PROD + "  max_requests_per_second: 10\n", file, capsys)

    assert loaded(PROD.replace("/team", "/other"), file, capsys) == "Airflows changed: prod."

    assert Airflow.objects.get(name="prod").options == {
        "url": "https://airflow.example.com/other",
        "username": "svops",
    }


def test_one_that_is_gone_becomes_inactive_and_keeps_everything(file: File, capsys: pytest.CaptureFixture[str]) -> None:
    loaded(PROD, file, capsys)
    Dag.objects.create(dag_id="etl", airflow_id="prod")

    assert loaded("[]", file, capsys) == "Airflows no longer active: prod."

    assert names() == {DEFAULT: True, "prod": False}
    assert Dag.objects.of("prod").count() == 1
    assert loaded("[]", file, capsys) == "The Airflows are as AIRFLOWS_FILE describes them."
    assert loaded(PROD, file, capsys) == "Airflows changed: prod."
    assert names() == {DEFAULT: True, "prod": True}


def test_one_of_an_admin_stays_as_it_is(file: File, root: User, capsys: pytest.CaptureFixture[str]) -> None:
    services.create_airflow(
        actor=root, name="mine", options={"url": "https://a.example.com", "username": "a", "password": "b"}
    )

    loaded(PROD, file, capsys)

    assert names() == {DEFAULT: True, "mine": True, "prod": True}
    assert dict(Airflow.objects.values_list("name", "from_file")) == {DEFAULT: False, "mine": False, "prod": True}


def test_the_file_takes_over_one_of_an_admin(file: File, root: User, capsys: pytest.CaptureFixture[str]) -> None:
    services.create_airflow(
        actor=root, name="prod", options={"url": "https://a.example.com", "username": "a", "password": "b"}
    )

    assert loaded(PROD, file, capsys) == "Airflows changed: prod."

    row = Airflow.objects.get(name="prod")
    assert (row.from_file, row.options["url"]) == (True, "https://airflow.example.com/team")


def test_nobody_else_changes_or_deletes_it(file: File, root: User, capsys: pytest.CaptureFixture[str]) -> None:
    loaded(PROD, file, capsys)
    before = Airflow.objects.filter(name="prod").values().get()
    row = Airflow.objects.get(name="prod")

    for refused in (
        lambda: services.change_airflow(actor=root, airflow=row, options={"username": "eve"}),
        lambda: services.change_airflow(actor=root, airflow=row, is_active=False),
        lambda: services.delete_airflow(actor=root, airflow=row),
    ):
        with pytest.raises(ConflictError, match="AIRFLOWS_FILE describes this Airflow, or did: "):
            refused()

    assert Airflow.objects.filter(name="prod").values().get() == before


def test_an_admin_deletes_one_that_is_gone_from_the_file(
    file: File, root: User, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded(PROD, file, capsys)
    loaded("[]", file, capsys)

    services.delete_airflow(actor=root, airflow=Airflow.objects.get(name="prod"))

    assert names() == {DEFAULT: True}


def test_an_admin_drains_one_of_the_file(file: File, root: User, capsys: pytest.CaptureFixture[str]) -> None:
    loaded(PROD, file, capsys)

    services.drain_airflow(actor=root, airflow=Airflow.objects.get(name="prod"))

    assert loaded(PROD, file, capsys) == "The Airflows are as AIRFLOWS_FILE describes them."
    assert Airflow.objects.get(name="prod").is_drained


WRONG = [
    ("", 'It must be a list of Airflows, like "- name: prod", or [] for none.'),
    ("name: prod", 'It must be a list of Airflows, like "- name: prod", or [] for none.'),
    ("- name: prod\n  url: [", "Line 2: expected the node content, but found '<stream end>'."),
    ("- name: prod\n  url: a\n  url: b", "Line 3: url is there twice."),
    ("- prod", "Entry 1 must be options with a name, like {name: prod, url: https://host}."),
    ("- {name: prod}\n- url: https://host", "Entry 2: name: must be a text, like prod."),
    ("- name: 12", "Entry 1: name: must be a text, like prod."),
    (
        "- name: default",
        "default: name: the settings AIRFLOW_… describe this one, another name is expected.",
    ),
    (
        PROD.replace("name: prod", "name: Prod!"),
        "Prod!: name: lower-case letters and digits, with single hyphens between them, at most 50 characters.",
    ),
    (PROD + PROD, "prod: name: must be there once."),
    (PROD.replace("PROD_", "NO_"), "prod: password: the variable NO_PASSWORD must be set."),
    (PROD.replace("PROD_PASSWORD", "EMPTY"), "prod: password: the variable EMPTY must be set."),
    (PROD.replace("${PROD_PASSWORD}", ""), "prod: password: must have a value."),
    (
        PROD.replace("${PROD_PASSWORD}", "1234"),
        "prod: password: must be one line of text, of at most 10000 characters.",
    ),
    (PROD + "  password_file: /x", "prod: password: one of password and password_file is expected."),
    (
        PROD.replace("password: ${PROD_PASSWORD}", "password_file: /not/there"),
        "prod: password_file: '/not/there' cannot be read: No such file or directory.",
    ),
    (
        PROD.replace("password: ${PROD_PASSWORD}", "password_file: 7"),
        "prod: password_file: must be the path of a file.",
    ),
    (PROD + "  headers_file: FILE", "prod: headers_file: 'FILE' must hold a JSON object."),
    (PROD.replace("https", "ftp"), "prod: url: must be like https://host/path, without ? and #."),
    (PROD + "  mwaa_method: invoke", "prod: mwaa_method: must be one of web_token, invoke_rest_api."),
    (PROD + "  auth: kerberos", "prod: auth: must be one of password, token, oauth2, google, mwaa, command."),
    (PROD.replace("username: svops", ""), "prod: username: required with auth password."),
]


@pytest.mark.parametrize(("text", "sentence"), WRONG)
def test_a_wrong_file_changes_nothing(text: str, sentence: str, file: File, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("no JSON")
    right = PROD.replace("name: prod", "name: first")
    # Those with a right entry before show that this one is not added either.
    file.write((right + text if text.startswith("\n- name: prod\n") else text).replace("FILE", str(tmp_path / "other")))

    with pytest.raises(CommandError) as refused:
        call_command("load_airflows")

    assert str(refused.value) == f"AIRFLOWS_FILE={str(file.path)!r}: {sentence}".replace("FILE'", f"{tmp_path}/other'")
    assert names() == {DEFAULT: True}
    assert AuditEntry.objects.count() == 0


def test_an_unknown_option_is_named_with_those_that_exist(file: File) -> None:
    file.write(PROD + "  pasword: x")

    with pytest.raises(CommandError, match="prod: pasword: unknown option; expected one of url, auth, username"):
        call_command("load_airflows")


def test_without_a_file_nothing_changes(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    settings.AIRFLOWS_FILE = ""
    Airflow.objects.create(name="prod", from_file=True)

    call_command("load_airflows")

    assert capsys.readouterr().out == "AIRFLOWS_FILE is not set: no Airflow was changed.\n"
    assert Airflow.objects.get(name="prod").is_active


@pytest.mark.django_db(transaction=True)
def test_several_that_load_at_once_add_each_once(file: File) -> None:
    file.write(PROD)
    entries = read(file.path, {"PROD_PASSWORD": "s3cret"})
    results: list[Loaded] = []

    def load() -> None:
        try:
            results.append(load_airflows([*entries, Entry(name="dev", options=entries[0].options)]))
        finally:
            connection.close()

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(results) == [Loaded([], [], [])] * 3 + [Loaded(["prod", "dev"], [], [])]
    assert Airflow.objects.filter(from_file=True).count() == 2
