"""docker-compose.yml agrees with the code: variables, commands, ports, health checks, start order."""

from __future__ import annotations

import ast
import graphlib
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings as django_settings
from django.core.management import get_commands
from django.test import Client
from django.urls import resolve
from pytest_django import Settings

from conftest import AirflowServer
from tests.deploy import compose, environment

AIRFLOW_VENV = compose.REPOSITORY / ".venv-airflow"

Services = dict[str, dict[str, Any]]

OURS = {"migrate", "web", "worker", "beat", "examples"}
AIRFLOWS = {"airflow-init", "airflow-api", "airflow-scheduler", "airflow-dags", "airflow-triggerer"}
# Variables in the documentation of the images, and variables that a command of the file reads.
DOCUMENTED = {
    "postgres": {"POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"},
    "airflow-db": {"POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"},
    "redis": {"REDISCLI_AUTH"},
    "airflow": {"CONNECTION_CHECK_MAX_COUNT", "AIRFLOW_PASSWORD", "SVOPS_INGEST_URL", "SVOPS_INGEST_SECRET"},
}
HEALTH_URL = re.compile(r"http://(?P<host>[\w.-]+):(?P<port>\d+)(?P<path>/[\w/]+)")


def example() -> dict[str, str]:
    return compose.read_env((compose.REPOSITORY / ".env.example").read_text())


def offered() -> set[str]:
    """Return the variables that the example names in a comment, because nothing fits everybody."""
    return set(re.findall(r"^#([A-Z0-9_]+)=", (compose.REPOSITORY / ".env.example").read_text(), re.MULTILINE))


def variables_of(service: dict[str, Any]) -> set[str]:
    return set(service.get("environment", {}))


def words(command: list[str]) -> list[list[str]]:
    """Return the commands that a service starts with: one, or those of its shell line."""
    if command[:2] != ["sh", "-c"]:
        return [command]
    return [shlex.split(part) for part in command[2].split("&&")]


def python_commands(services: Services) -> list[list[str]]:
    return [argv for name in sorted(OURS) for argv in words(services[name]["command"])]


# --- Variables ------------------------------------------------------------------------------------------------


def test_the_example_has_exactly_the_variables_of_the_file() -> None:
    without_default = {use.name for use in compose.uses(compose.parse()) if use.operator == "-" and not use.word}

    # Compose itself reads that one.
    assert {use.name for use in compose.uses(compose.parse())} | {"COMPOSE_PROFILES"} == set(example()) | offered()
    assert offered() == without_default - set(example())


def test_a_variable_is_required_exactly_if_the_example_leaves_it_empty() -> None:
    required = {use.name for use in compose.uses(compose.parse()) if use.operator == "?"}

    assert required == {name for name, value in example().items() if not value}


def test_the_defaults_of_the_file_are_the_values_of_the_example() -> None:
    defaults = {(use.name, use.word) for use in compose.uses(compose.parse()) if use.operator == "-" and use.word}

    assert defaults <= set(example().items())


@pytest.mark.parametrize("name", sorted(name for name, value in example().items() if not value))
def test_nothing_starts_without_a_secret(name: str, env_file: Path) -> None:
    variables = compose.read_env(env_file.read_text()) | {name: ""}

    with pytest.raises(compose.UnsetError, match=f"^{name}$"):
        compose.services(variables)


def test_the_documented_command_makes_an_env_file_that_only_its_owner_reads(env_file: Path) -> None:
    variables = compose.read_env(env_file.read_text())
    secrets = [variables[name] for name, value in example().items() if not value]

    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    assert variables.keys() == example().keys()
    assert all(re.fullmatch(r"[\w-]{43}=", secret) for secret in secrets)
    assert len(set(secrets)) == len(secrets)


def documented() -> list[str]:
    """Return the variables of docs/configuration.md that are for SVOps' own processes."""
    page = (compose.REPOSITORY / "docs" / "configuration.md").read_text().partition("\n## In Airflow")[0]
    return re.findall(r"^\| `([A-Z_0-9]+)` \|", page, re.MULTILINE)


# What the file itself sets, because it says where things are in its containers, or keeps secrets apart.
SET_BY_THE_FILE = {
    "SECRET_KEY": ".env",
    "POSTGRES_PASSWORD": ".env",
    "AIRFLOW_URL": ".env",
    "AIRFLOW_PASSWORD": ".env",
    "AIRFLOWS_FILE": ".env",
    "ALLOWED_HOSTS": ".env",
    "TRUST_PROXY": ".env",
    "READY_TOKEN": ".env",
    "AUDIT_WEBHOOK_URL": ".env",
    "SVOPS_ADMIN_USERNAME": ".env",
    "SVOPS_ADMIN_EMAIL": ".env",
    "SVOPS_ADMIN_PASSWORD": ".env",
    "POSTGRES_SERVER": "the file",
    "POSTGRES_USER": "the file",
    "POSTGRES_DB": "the file",
    "REDIS_URL": "the file",
    "AUDIT_HEAD_FILE": "the file",
}
PORTS_OF_THE_MACHINE = {"SVOPS_PORT", "AIRFLOW_PORT"}


@pytest.mark.parametrize("name", documented())
def test_every_documented_variable_reaches_the_processes(name: str, env_file: Path) -> None:
    """Before: PUBLIC_URL, EMAIL_*, OIDC_*, METRICS_TOKEN, SECRET_KEYS and more reached no process."""
    in_env = compose.read_env(env_file.read_text())
    place = SET_BY_THE_FILE.get(name, "svops.env")
    variables = in_env | ({name: "given"} if place == ".env" else {})
    started = compose.services(variables, {name: "given"} if place == "svops.env" else {})

    got = {service: started[service]["environment"].get(name, "") for service in OURS}

    if place == "svops.env":
        assert got == dict.fromkeys(OURS, "given")
    else:
        assert any(("given" in value) if place == ".env" else value for value in got.values())
    assert (name in example() or name in offered()) == (place == ".env" or name in PORTS_OF_THE_MACHINE)


def test_the_second_example_has_documented_variables_for_its_own_file() -> None:
    text = (compose.REPOSITORY / "svops.env.example").read_text()
    named = set(re.findall(r"^#?([A-Z0-9_]+)=", text, re.MULTILINE))

    assert named <= set(documented()) - SET_BY_THE_FILE.keys()


def test_our_services_get_only_variables_that_the_code_reads(services: Services) -> None:
    given = set[str]().union(*(variables_of(services[name]) for name in OURS))

    assert given - environment.names() == set()


@pytest.mark.parametrize("name", ["postgres", "airflow-db", "redis"])
def test_the_servers_get_only_variables_that_they_document(name: str, services: Services) -> None:
    assert variables_of(services[name]) == DOCUMENTED[name]


def test_airflow_knows_its_variables_and_commands(services: Services) -> None:
    given = set[str]().union(*(variables_of(services[name]) for name in AIRFLOWS)) - DOCUMENTED["airflow"]
    script = services["airflow-api"]["command"][2]
    commands = [services[name]["command"] for name in sorted(AIRFLOWS - {"airflow-api"})]
    commands.append(shlex.split(script.rpartition("exec ")[2]))

    asked = {"commands": [argv[1:] for argv in commands], "variables": sorted(given)}
    probe = subprocess.run(
        [AIRFLOW_VENV / "bin" / "python", Path(__file__).with_name("airflow_probe.py")],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
    )

    assert {argv[0] for argv in commands} == {"airflow"}
    assert json.loads(probe.stdout.rpartition("ANSWER ")[2]) == {"commands": [], "variables": []}


def test_the_image_of_airflow_is_the_release_that_the_lock_file_names(services: Services) -> None:
    locked = re.search(
        r"^apache-airflow==(\S+)", (compose.REPOSITORY / "requirements-airflow.txt").read_text(), re.MULTILINE
    )

    assert locked is not None
    assert {services[name]["image"] for name in AIRFLOWS} == {f"apache/airflow:{locked[1]}"}


def test_both_sides_agree_on_passwords_and_addresses(services: Services) -> None:
    web, postgres = services["web"]["environment"], services["postgres"]["environment"]

    assert web["POSTGRES_SERVER"] in services
    assert {name: web[name] for name in postgres} == postgres
    assert web["REDIS_URL"] == f"redis://:{services['redis']['environment']['REDISCLI_AUTH']}@redis:6379/0"
    assert web["AIRFLOW_PASSWORD"] == services["airflow-api"]["environment"]["AIRFLOW_PASSWORD"]
    for name in ("airflow-api", "airflow-scheduler"):
        assert services[name]["environment"]["SVOPS_INGEST_SECRET"] == web["SVOPS_INGEST_SECRET"]


def test_each_service_has_only_the_secrets_that_it_uses(services: Services) -> None:
    """Before: the password of Airflow and the secret of the listener in 5 services of SVOps and 4 of Airflow."""
    holders = {
        "SECRET_KEY": {"web", "worker", "beat", "migrate", "examples"},
        "POSTGRES_PASSWORD": {"web", "worker", "beat", "migrate", "examples", "postgres"},
        "REDIS_URL": {"web", "worker", "beat", "migrate", "examples"},
        "AIRFLOW_PASSWORD": {"web", "worker", "examples", "airflow-api"},
        "SVOPS_INGEST_SECRET": {"web", "airflow-api", "airflow-scheduler", "airflow-triggerer"},
        "READY_TOKEN": {"web", "beat"},
        "AUDIT_WEBHOOK_URL": {"worker"},
        "SVOPS_ADMIN_PASSWORD": {"migrate"},
        "AIRFLOWS_FILE": {"migrate"},
        "AIRFLOW__API__SECRET_KEY": {"airflow-api"},
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": {"airflow-api"},
    }

    found = {
        secret: {
            name
            for name, service in services.items()
            if secret in variables_of(service) and not (name == "airflow-db" and secret == "POSTGRES_PASSWORD")
        }
        for secret in holders
    }

    assert found == holders


def test_the_listener_pushes_to_a_path_of_ours_and_web_accepts_that_host(services: Services) -> None:
    url = urlsplit(services["airflow-scheduler"]["environment"]["SVOPS_INGEST_URL"])

    assert url.hostname in services["web"]["environment"]["ALLOWED_HOSTS"].split(",")
    assert (url.hostname, [f"{url.port}"]) == ("web", services["web"]["expose"])
    assert resolve(url.path).view_name == "ingest"


# --- Commands -------------------------------------------------------------------------------------------------


def test_every_command_of_ours_exists(services: Services) -> None:
    commands = python_commands(services)
    managed = [argv[2] for argv in commands if argv[:2] == ["python", "manage.py"]]
    modules = [argv[2] for argv in commands if argv[:2] == ["python", "-m"]]

    assert {argv[0] for argv in commands} == {"python", "celery"}
    assert all(Path(sys.executable).with_name(argv[0]).is_file() for argv in commands)
    assert modules == ["svops.server"]
    assert find_spec(modules[0])
    assert managed == ["load_examples", "migrate", "load_airflows", "ensure_admin"]
    assert set(managed) <= set(get_commands())


def test_the_image_starts_the_web_process_as_the_file_does(services: Services) -> None:
    command = re.search(r"^CMD (\[.*\])$", (compose.REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)

    assert command is not None
    assert json.loads(command[1]) == [part for word in services["web"]["command"] for part in word.split("=", 1)]


def test_airflow_signs_in_with_the_password_of_the_env_file(services: Services, tmp_path: Path) -> None:
    given = services["airflow-api"]["environment"]
    passwords = tmp_path / "passwords.json"
    airflow = tmp_path / "airflow"
    airflow.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    airflow.chmod(0o755)

    started = subprocess.run(
        services["airflow-api"]["command"],
        env={
            "PATH": f"{tmp_path}:{Path(sys.executable).parent}:/usr/bin:/bin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW_PASSWORD": given["AIRFLOW_PASSWORD"],
        },
        capture_output=True,
        text=True,
        check=True,
    )

    user, _, role = given["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"].partition(":")
    assert role == "admin"
    assert json.loads(passwords.read_text()) == {user: given["AIRFLOW_PASSWORD"]}
    assert user == django_settings.AIRFLOW_USERNAME
    assert stat.S_IMODE(passwords.stat().st_mode) == 0o600
    assert started.stdout.split() == ["api-server", "--host", "0.0.0.0", "--port", "8080", "--workers", "1"]  # noqa: S104


# --- Ports, users, files --------------------------------------------------------------------------------------


def test_only_the_proxy_and_airflow_publish_ports_and_only_on_this_machine(
    services: Services,
) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}

    assert published == {
        "proxy": ["127.0.0.1:8000:8080", "127.0.0.1:8443:8443"],
        "airflow-api": ["127.0.0.1:8080:8080"],
    }


def test_what_may_be_started_in_any_number_has_no_port_and_no_name_of_its_own(services: Services) -> None:
    """Before: `--scale web=2` failed, because both wanted port 8000."""
    assert all("ports" not in services[name] and "container_name" not in services[name] for name in ("web", "worker"))


def test_only_airflow_and_the_proxy_can_be_left_out_and_nothing_else_waits_for_them(services: Services) -> None:
    profiles = {name: service["profiles"] for name, service in services.items() if "profiles" in service}

    assert profiles.pop("proxy") == ["proxy"]
    assert profiles.keys() == {*AIRFLOWS, "airflow-db", "examples"}
    assert set(map(tuple, profiles.values())) == {("embedded-airflow",)}
    assert example()["COMPOSE_PROFILES"] == "embedded-airflow,proxy"
    for name in services.keys() - profiles.keys():
        assert not {"proxy", *profiles} & services[name].get("depends_on", {}).keys()


def test_only_the_network_of_the_proxy_may_name_other_addresses(services: Services) -> None:
    (network,) = compose.parse()["networks"]["front"]["ipam"]["config"]

    assert services["web"]["environment"]["TRUST_PROXY"] == network["subnet"]
    assert {name for name, service in services.items() if "front" in service["networks"]} == {"web", "proxy"}


def test_no_container_runs_as_root_or_can_become_root(services: Services) -> None:
    users = {name: service.get("user", "of the image") for name, service in services.items()}

    assert users == dict.fromkeys(OURS, "of the image") | dict.fromkeys(AIRFLOWS, "50000:0") | {
        "postgres": "postgres",
        "airflow-db": "postgres",
        "redis": "redis",
        "proxy": "nginx",
    }
    assert re.search(r"^USER 10001:10001$", (compose.REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    assert all(service["cap_drop"] == ["ALL"] for service in services.values())
    assert all(service["security_opt"] == ["no-new-privileges:true"] for service in services.values())


def test_every_file_system_except_airflows_is_read_only(services: Services) -> None:
    assert {name for name, service in services.items() if not service.get("read_only")} == AIRFLOWS


def test_every_volume_is_declared_or_a_read_only_directory_of_the_repository(services: Services) -> None:
    used = {volume for service in services.values() for volume in service.get("volumes", [])}
    named = {volume.partition(":")[0] for volume in used if not volume.startswith(".")}
    mounted = {volume for volume in used if volume.startswith(".")}

    assert named == set(compose.parse()["volumes"])
    assert mounted == {
        "./dags:/opt/airflow/dags:ro",
        "./plugins:/opt/airflow/plugins:ro",
        "./deploy/airflows:/etc/svops/airflows:ro",
        "./deploy/proxy/compose:/etc/svops/proxy:ro",
        "./deploy/proxy/tls:/etc/svops/tls:ro",
    }
    assert all((compose.REPOSITORY / volume.partition(":")[0]).is_dir() for volume in mounted)


def test_airflow_cannot_reach_our_database_or_our_redis(services: Services) -> None:
    private = {name for name, service in services.items() if "airflow" not in service["networks"]}

    assert private == {"postgres", "redis", "proxy"}
    assert all(services[name]["networks"] == ["airflow"] for name in AIRFLOWS)


# --- Health and order -----------------------------------------------------------------------------------------


def checks(services: Services) -> Iterator[tuple[str, list[str]]]:
    for name, service in services.items():
        if test := service.get("healthcheck", {}).get("test"):
            yield name, test


def test_each_long_running_service_has_a_health_check_and_restarts_by_itself(services: Services) -> None:
    staying = {name for name, service in services.items() if not compose.is_one_shot(service)}

    assert {name for name, _ in checks(services)} == staying
    assert all(services[name]["restart"] == "unless-stopped" for name in staying)


def test_health_checks_request_urls_that_exist(services: Services) -> None:
    openapi = AIRFLOW_VENV.glob("lib/python*/site-packages/airflow/api_fastapi/core_api/openapi/v2*.yaml")
    airflows = next(openapi).read_text()
    found = {
        (name, match["host"], match["port"], match["path"])
        for name, test in checks(services)
        for match in HEALTH_URL.finditer(" ".join(test))
    }

    for name, host, port, path in found:
        server = name if host == "127.0.0.1" else host
        if server == "web":
            resolve(path)
        elif server == "proxy":
            assert f"location = {path} " in (compose.REPOSITORY / "deploy/proxy/compose/health.conf").read_text()
        else:
            assert server == "airflow-api"
            assert f"\n  {path}:\n" in airflows
        assert port in {*services[server].get("expose", []), *_inside(services[server])}
    assert {name for name, *_ in found} == {"web", "beat", "proxy", *AIRFLOWS - {"airflow-init"}}


def _inside(service: dict[str, Any]) -> list[str]:
    """Return the ports inside the container that the service publishes."""
    return [port.rpartition(":")[2] for port in service.get("ports", [])]


@pytest.mark.django_db
def test_health_checks_work_over_http_while_everything_else_is_redirected_to_https(
    client: Client, settings: Settings
) -> None:
    settings.SECURE_SSL_REDIRECT = True

    assert client.get("/healthz").status_code == HTTPStatus.OK
    assert client.post("/api/v1/ingest").status_code == HTTPStatus.UNAUTHORIZED
    assert client.get("/metrics").status_code == HTTPStatus.OK
    assert client.get("/docs").status_code == HTTPStatus.MOVED_PERMANENTLY


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "statuses"),
    [("/healthz", {200}), ("/healthz/", {200}), ("/readyz", {200, 503}), ("/metrics", {200}), ("/login", {400})],
)
@pytest.mark.parametrize("allowed", [["svops.example.com"], [".example.com"]])
def test_only_what_is_probed_answers_under_any_host(
    client: Client, settings: Settings, path: str, statuses: set[int], allowed: list[str]
) -> None:
    """Before: the probes of a kubelet and Prometheus, which ask by address, got 400."""
    settings.ALLOWED_HOSTS = allowed

    assert client.get(path, headers={"Host": "10.1.2.3:8000"}).status_code in statuses


@pytest.mark.parametrize(
    ("given", "header"),
    [
        ({}, "max-age=60"),
        ({"HSTS_SUBDOMAINS": "true"}, "max-age=60; includeSubDomains"),
        ({"HSTS_SUBDOMAINS": "true", "HSTS_PRELOAD": "true"}, "max-age=60; includeSubDomains; preload"),
    ],
)
def test_strict_transport_binds_only_this_host_unless_told(given: dict[str, str], header: str) -> None:
    """Before: HSTS_SECONDS forced all subdomains, and the lists of browsers."""
    show = "from django.test import Client; print(Client().get('/healthz', secure=True)['Strict-Transport-Security'])"
    argv = [sys.executable, "-c", f"import django; django.setup(); {show}"]
    env = {"DJANGO_SETTINGS_MODULE": "svops.settings", "HSTS_SECONDS": "60", "ALLOWED_HOSTS": "*", **given}

    shown = subprocess.run(
        argv, env=os.environ | env, cwd=compose.REPOSITORY, capture_output=True, text=True, check=True
    )

    assert shown.stdout.strip() == header


def test_the_health_checks_of_airflow_pass_on_a_real_one(services: Services, airflow_server: AirflowServer) -> None:
    for name in sorted(AIRFLOWS - {"airflow-init"}):
        kind, program, *arguments = services[name]["healthcheck"]["test"]
        here = [HEALTH_URL.sub(rf"{airflow_server.url}\g<path>", argument) for argument in arguments]
        done = subprocess.run([shutil.which(program) or program, *here], capture_output=True, text=True, check=False)

        assert (name, kind, done.returncode, done.stderr) == (name, "CMD", 0, "")


def test_services_start_in_order_and_wait_for_health_or_for_the_end_of_others(services: Services) -> None:
    order = {name: service.get("depends_on", {}) for name, service in services.items()}

    list(graphlib.TopologicalSorter(order).static_order())
    for needed, condition in (item for needs in order.values() for item in needs.items()):
        ends = compose.is_one_shot(services[needed])
        assert condition == {"condition": "service_completed_successfully" if ends else "service_healthy"}


def test_migrations_end_before_anything_of_ours_starts(services: Services) -> None:
    assert {name for name in OURS if "migrate" in services[name]["depends_on"]} == OURS - {"migrate"}


def test_every_python_health_check_is_python(services: Services) -> None:
    for _, test in checks(services):
        if test[1:3] == ["python", "-c"]:
            ast.parse(test[3])
