"""Airflows are added, changed and deleted by admins. What is wrong is said of each option, and secrets stay secret."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import AuditEntry, User
from rest.errors import ConflictError, InvalidInputError, NotAllowedError
from rest.sealing import UnsealableError
from workflows import options as ways
from workflows import services, way_in
from workflows.airflow.access import NAMES, OAuth2, Password, StaticToken
from workflows.dagrules import DagMatch, DagRule
from workflows.models import Airflow, Dag, DagFileError, Run, Workflow
from workflows.services.airflows import shown_way
from workflows.states import RunState

URL = "https://airflow.example.com/team"
BY_PASSWORD = {"url": URL, "username": "svops", "password": "s3cret"}
BY_TOKEN = {"url": URL, "auth": "token", "token": "t0ken"}
BY_OAUTH2 = {
    "url": URL,
    "auth": "oauth2",
    "oauth2_token_url": "https://id.example.com/token",
    "oauth2_client_id": "svops",
    "oauth2_client_secret": "s3cret",
}
ONE_LINE = "Must be one line of text, of at most 10000 characters."
A_WEB_ADDRESS = "Must be like https://host/path, without ? and #."
BY_FILE = "Reads a file, or runs a program, on the server of SVOps: only the operator can give it, in AIRFLOWS_FILE."
BY_OPERATOR = "uses the identity of SVOps' server: only the operator can choose it, in AIRFLOWS_FILE."
A_HEADER = 'Must be a JSON object of headers, like {"X-Team": "data"}.'


def without(options: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != name}


@pytest.fixture
def prod(root: User) -> Airflow:
    return services.create_airflow(actor=root, name="prod", options=BY_PASSWORD)


@pytest.mark.parametrize(
    ("options", "way"),
    [
        (BY_PASSWORD, Password(username="svops", password="s3cret")),
        (BY_PASSWORD | {"auth": "password"}, Password(username="svops", password="s3cret")),
        (BY_TOKEN, StaticToken(value="t0ken")),
        (
            BY_OAUTH2 | {"oauth2_scope": "airflow"},
            OAuth2(
                token_url="https://id.example.com/token", client_id="svops", client_secret="s3cret", scope="airflow"
            ),
        ),
        (
            without(BY_OAUTH2, "oauth2_token_url") | {"oauth2_method": "airflow"},
            OAuth2(client_id="svops", client_secret="s3cret", method="airflow"),
        ),
    ],
)
def test_an_airflow_that_is_added_is_reached_in_the_given_way(root: User, options: dict[str, Any], way: object) -> None:
    more = {"headers": {"X-Team": " data "}, "proxy": "http://u:p@proxy:3128", "max_requests_per_second": 5}

    services.create_airflow(actor=root, name="prod", options=options | more | {"ingest_secret": "hush"})

    access = way_in.access("prod")
    assert (access.base_url, access.way) == (URL, way)
    assert (access.headers, access.proxy, access.requests_per_second) == (
        (("X-Team", "data"),),
        "http://u:p@proxy:3128",
        5.0,
    )
    assert way_in.ingest_secret("prod") == "hush"


@pytest.mark.parametrize(
    ("options", "field", "message"),
    [
        ({}, "url", "Required."),
        (without(BY_PASSWORD, "username"), "username", "Required with auth password."),
        (without(BY_PASSWORD, "password"), "password", "Required with auth password."),
        (without(BY_TOKEN, "token"), "token", "Required with auth token, or token_file in AIRFLOWS_FILE."),
        *((without(BY_OAUTH2, name), name, "Required with auth oauth2.") for name in BY_OAUTH2 if "oauth2_" in name),
        (BY_PASSWORD | {"url": "airflow"}, "url", A_WEB_ADDRESS),
        (BY_PASSWORD | {"url": "ftp://airflow"}, "url", A_WEB_ADDRESS),
        (BY_PASSWORD | {"url": "https://airflow/?a=b"}, "url", A_WEB_ADDRESS),
        (BY_PASSWORD | {"url": "https://airflow:port/"}, "url", A_WEB_ADDRESS),
        (
            BY_PASSWORD | {"url": "https://u:p@airflow/"},
            "url",
            "Must be like https://host/path, without a user and a password.",
        ),
        (BY_PASSWORD | {"url": 7}, "url", ONE_LINE),
        (BY_PASSWORD | {"auth": "magic"}, "auth", f"Must be one of {', '.join(NAMES)}."),
        (BY_PASSWORD | {"auth": ["token"]}, "auth", f"Must be one of {', '.join(NAMES)}."),
        *(
            (
                BY_PASSWORD | {"auth": way},
                "auth",
                f"{way.capitalize()} {BY_OPERATOR}",
            )
            for way in ways.BY_SERVER
        ),
        (BY_PASSWORD | {"username": "a\nb"}, "username", ONE_LINE),
        (BY_PASSWORD | {"username": "a\0b"}, "username", ONE_LINE),
        (BY_PASSWORD | {"password": ""}, "password", ONE_LINE),
        (BY_PASSWORD | {"password": "x" * 10_001}, "password", ONE_LINE),
        (BY_TOKEN | {"token": "tökén"}, "token", "Must be one line of printable ASCII."),
        (
            BY_OAUTH2 | {"oauth2_token_url": "http://id.example.com/token"},
            "oauth2_token_url",
            "Must start with https:// (http:// only to localhost).",
        ),
        (
            BY_OAUTH2 | {"oauth2_method": "none"},
            "oauth2_method",
            "Must be one of client_secret_basic, client_secret_post, airflow.",
        ),
        (BY_PASSWORD | {"headers": "X-Team: data"}, "headers", A_HEADER),
        (BY_PASSWORD | {"headers": {"X-Team": 7}}, "headers", A_HEADER),
        (BY_PASSWORD | {"headers": {"X Team": "data"}}, "headers", A_HEADER),
        (
            BY_PASSWORD | {"headers": {"Cookie": "a"}},
            "headers",
            "Sets Cookie: what proves who SVOps is comes from AIRFLOW_AUTH.",
        ),
        (BY_PASSWORD | {"proxy": "socks5://u:s3cret@proxy"}, "proxy", A_WEB_ADDRESS),
        (BY_PASSWORD | {"token_timeout": 0}, "token_timeout", "Must be a positive number of seconds."),
        (BY_PASSWORD | {"token_timeout": "soon"}, "token_timeout", "Must be a number."),
        (
            BY_PASSWORD | {"max_requests_per_second": 0.01},
            "max_requests_per_second",
            "Must be between 0.1 and 10000, or 0 for no limit.",
        ),
        (BY_PASSWORD | {"max_requests_per_second": True}, "max_requests_per_second", "Must be a number."),
        (BY_PASSWORD | {"ingest_secret": []}, "ingest_secret", ONE_LINE),
        (BY_PASSWORD | {"pasword": "x"}, "pasword", f"Unknown option; expected one of {', '.join(ways.TABLE)}."),
        *((BY_PASSWORD | {name: "/etc/hostname"}, name, BY_FILE) for name in sorted(ways.LOCAL)),
    ],
)
def test_a_wrong_option_is_refused_with_what_was_expected(
    root: User, options: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        services.create_airflow(actor=root, name="prod", options=options)

    assert refusal.value.errors == ({"url": ["Required."], **missing()} if not options else {field: [message]})
    assert not Airflow.objects.filter(name="prod").exists()


def missing() -> dict[str, list[str]]:
    return {name: ["Required with auth password."] for name in ("username", "password")}


@pytest.mark.parametrize("name", ["", "Prod", "a b", "a--b", "-a", "a/b", "prod\n", "x" * 51, "ä"])
def test_a_name_is_part_of_addresses(root: User, name: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        services.create_airflow(actor=root, name=name, options=BY_PASSWORD)

    expected = "Lower-case letters and digits, with single hyphens between them, at most 50 characters."
    assert refusal.value.errors == {"name": [expected]}


@pytest.mark.parametrize("name", ["default", "prod"])
def test_a_name_is_given_once(root: User, prod: Airflow, name: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        services.create_airflow(actor=root, name=name, options=BY_PASSWORD)

    assert refusal.value.errors == {"name": ["There is already an Airflow with this name."]}


def test_only_admins_get_here(ada: User, prod: Airflow) -> None:
    for act in (
        lambda: services.create_airflow(actor=ada, name="dev", options=BY_PASSWORD),
        lambda: services.create_airflow(actor=None, name="dev", options=BY_PASSWORD),
        lambda: services.change_airflow(actor=ada, airflow=prod, is_active=False),
        lambda: services.drain_airflow(actor=ada, airflow=prod),
        lambda: services.delete_airflow(actor=ada, airflow=prod),
    ):
        with pytest.raises(NotAllowedError):
            act()
    prod.refresh_from_db()
    assert (prod.is_active, prod.drained_at) == (True, None)


def test_an_operators_file_gives_local_options_and_replaces_all(db: None, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t0ken")
    of_file = {"url": URL, "auth": "token", "token_file": str(token)}

    prod = services.create_airflow(actor=None, name="prod", options=of_file, from_file=True)
    assert way_in.access("prod").way == StaticToken(file=str(token))

    services.change_airflow(actor=None, airflow=prod, options=BY_PASSWORD, from_file=True)
    way_in.forget("prod")
    assert way_in.access("prod").way == Password(username="svops", password="s3cret")


def test_what_an_operators_file_gave_is_not_changed_elsewhere(root: User, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t0ken")
    of_file = {"url": URL, "auth": "token", "token_file": str(token)}
    prod = services.create_airflow(actor=None, name="prod", options=of_file, from_file=True)

    with pytest.raises(ConflictError, match="AIRFLOWS_FILE describes this Airflow"):
        services.change_airflow(actor=root, airflow=prod, options={"url": "https://elsewhere.example.com"})

    prod.refresh_from_db()
    assert prod.options == of_file


@pytest.mark.parametrize(
    ("before", "change", "kept"),
    [
        (BY_PASSWORD, {"url": "https://elsewhere"}, ["password"]),
        (BY_PASSWORD | {"headers": {"X-Key": "k"}}, {"url": "https://elsewhere", "password": "new"}, ["headers"]),
        (BY_PASSWORD, {"proxy": "http://elsewhere"}, ["password"]),
        (BY_OAUTH2, {"oauth2_token_url": "https://elsewhere"}, ["oauth2_client_secret"]),
    ],
)
def test_a_stored_secret_is_not_sent_to_another_address(
    root: User, before: dict[str, Any], change: dict[str, Any], kept: list[str]
) -> None:
    prod = services.create_airflow(actor=root, name="prod", options=before)

    with pytest.raises(InvalidInputError) as refusal:
        services.change_airflow(actor=root, airflow=prod, options=change)

    [moved] = change.keys() & set(ways.DESTINATIONS)
    assert refusal.value.errors == {name: [f"Required again with another {moved}."] for name in kept}
    services.change_airflow(actor=root, airflow=prod, options=change | dict.fromkeys(kept, "again") | {"headers": None})


def test_a_change_keeps_what_it_does_not_give_and_takes_away_what_it_says(root: User, prod: Airflow) -> None:
    services.change_airflow(actor=root, airflow=prod, options={"ingest_secret": "hush", "token_timeout": 3})
    prod = services.change_airflow(actor=root, airflow=prod, options={"token_timeout": None, "username": "other"})

    assert prod.options == {"url": URL, "username": "other"}
    assert shown_way(prod) == (URL, "password", {"username": "other"}, ["ingest_secret", "password"])


def test_the_way_to_the_default_airflow_is_that_of_the_settings(root: User) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        services.change_airflow(actor=root, airflow=Airflow.default(), options=BY_PASSWORD)
    message = "The way to the default Airflow is that of the settings AIRFLOW_…: change it there."
    assert refusal.value.errors == {name: [message] for name in BY_PASSWORD}
    with pytest.raises(ConflictError):
        services.delete_airflow(actor=root, airflow=Airflow.default())
    assert services.drain_airflow(actor=root, airflow=Airflow.default()).is_drained


def test_the_default_airflow_is_shown_without_what_other_ways_would_do(db: None, settings: Settings) -> None:
    assert shown_way(Airflow.default()).options.keys() == {"username", "token_timeout"}

    settings.AIRFLOW_AUTH, settings.AIRFLOW_MWAA_ENVIRONMENT = "mwaa", "prod"
    assert shown_way(Airflow.default()).options.keys() >= {"mwaa_environment", "mwaa_method"}


def test_no_secret_is_in_the_trail_or_readable_in_the_table(root: User) -> None:
    secrets = {
        "password": "hush-1",
        "token": "hush-2",
        "oauth2_client_secret": "hush-3",
        "headers": {"X-Key": "hush-4"},
        "proxy": "http://u:hush-5@proxy",
        "ingest_secret": "hush-6",
    }
    prod = services.create_airflow(actor=root, name="prod", options=BY_PASSWORD | secrets)
    services.change_airflow(actor=root, airflow=prod, options={"password": "hush-7"})
    services.delete_airflow(actor=root, airflow=prod)

    rows = list(AuditEntry.objects.filter(object_type="workflows.airflow").order_by("id"))
    assert [row.action for row in rows] == ["airflow.added", "airflow.changed", "airflow.deleted"]
    assert rows[0].after == {"is_active": True, "url": URL, "username": "svops", "secrets": sorted(secrets)}
    assert (rows[1].before, rows[1].after) == ({}, {"changed_secrets": ["password"]})
    stored = f"{prod.options} {prod.secrets} {[(row.before, row.after) for row in rows]}"
    assert "hush" not in stored


def test_an_airflow_in_use_stays(root: User, ada: User, prod: Airflow) -> None:
    dag = Dag.objects.create(airflow=prod, dag_id="etl")
    workflow = Workflow.objects.create(name="There", dag=dag, owner=ada)

    with pytest.raises(ConflictError) as refusal:
        services.delete_airflow(actor=root, airflow=prod)

    assert refusal.value.extra == {"workflows": 1, "runs": 0}
    workflow.dag = Dag.objects.create(dag_id="etl")
    workflow.save()
    Run.objects.create(
        workflow=workflow, airflow=prod, dag_id="etl", dag_run_id="r", user=ada, state=RunState.SUCCESS,
        created_at=timezone.now(),
    )  # fmt: skip
    with pytest.raises(ConflictError) as refusal:
        services.delete_airflow(actor=root, airflow=prod)
    assert refusal.value.extra == {"workflows": 0, "runs": 1}
    assert Dag.objects.of("prod").count() == 1


@pytest.mark.parametrize("lease", ["leased_until", "dags_leased_until", "dispatch_leased_until"])
@pytest.mark.parametrize(("left", "is_deleted"), [(30, False), (-1, True)])
def test_an_airflow_that_a_worker_works_on_stays(
    root: User, prod: Airflow, lease: str, left: int, is_deleted: bool
) -> None:
    Airflow.objects.filter(pk=prod.pk).update(**{lease: timezone.now() + timedelta(seconds=left)})

    with nullcontext() if is_deleted else pytest.raises(ConflictError, match="A worker polls it"):
        services.delete_airflow(actor=root, airflow=prod)

    assert Airflow.objects.filter(pk=prod.pk).exists() != is_deleted


def test_an_airflow_that_is_deleted_takes_its_mirror_and_its_rules_with_it(root: User, prod: Airflow, etl: Dag) -> None:
    Dag.objects.create(airflow=prod, dag_id="etl")
    DagFileError.objects.create(airflow=prod, filename="broken.py", error="SyntaxError")
    for name in ("prod", "default", ""):
        DagRule.objects.create(airflow=name, match=DagMatch.ALL)

    services.delete_airflow(actor=root, airflow=prod)

    assert list(Airflow.objects.values_list("name", flat=True)) == ["default"]
    assert list(Dag.objects.all()) == [etl]
    assert not DagFileError.objects.exists()
    assert set(DagRule.objects.values_list("airflow", flat=True)) == {"default", ""}


def test_a_new_key_encrypts_again(prod: Airflow, settings: Settings) -> None:
    Airflow.default()
    old = settings.SECRET_KEYS
    settings.SECRET_KEYS = ["a new key", *old]

    assert services.reseal_airflows() == 1

    settings.SECRET_KEYS = ["a new key"]
    way_in.forget("prod")
    assert way_in.access("prod").way == Password(username="svops", password="s3cret")
    settings.SECRET_KEYS = old
    with pytest.raises(UnsealableError):
        services.reseal_airflows()


def test_all_that_is_wrong_of_a_new_airflow_is_said_at_once(root: User) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        services.create_airflow(actor=root, name="Bad Name", options={"url": "ftp://x", "tokn": 1})

    assert sorted(refusal.value.errors) == ["name", "tokn", "url"]
