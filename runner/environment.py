"""Which variables of the operator's environment each process sees. Everything else stays out, secrets above all.

A task of Airflow can print its environment into a log, which a viewer can read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

# What programs need on this machine: where things are, the language, the way to the network.
BASE = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TEMP", "TMP", "TERM", "TZ", "LANG", "LANGUAGE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "LD_LIBRARY_PATH"),
    }
)
BASE_PREFIXES = ("LC_", "XDG_", "PYTHON", "COVERAGE_")
# For the authors of DAGs: Airflow's own variables and connections.
AIRFLOW_PREFIXES = ("AIRFLOW_VAR_", "AIRFLOW_CONN_")
# By way to Airflow: where its library finds credentials.
OF_WAYS = {"google": ("GOOGLE_", "CLOUDSDK_", "GCE_METADATA_"), "mwaa": ("AWS_",)}
# Names the variables of SVOps that only the command which creates the first administrator sees.
ADMIN_PREFIX = "SVOPS_ADMIN_"


def base() -> dict[str, str]:
    """Return what every process may see."""
    return _of(BASE, BASE_PREFIXES)


def of_airflow() -> dict[str, str]:
    """Return what Airflow, and so each task, may see: also what `AIRFLOW_TASK_ENV` lists, a name or `PREFIX_*`."""
    listed = [name.strip() for name in os.environ.get("AIRFLOW_TASK_ENV", "").split(",") if name.strip()]
    names = {"SVOPS_DATA_DIR", *(name for name in listed if not name.endswith("*"))}
    prefixes = tuple(name[:-1] for name in listed if name.endswith("*"))
    found = base() | _of(names, (*AIRFLOW_PREFIXES, *prefixes))
    # They would lead to modules of another Python.
    return {name: value for name, value in found.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}


def of_svops() -> dict[str, str]:
    """Return what SVOps' own processes may see: its settings, their files, and those of the clients that it uses."""
    from svops import settings  # here, since reading the settings can fail

    further = _further()
    files = {f"{name}_FILE" for name in settings.VARIABLES_READ}
    of_commands = {*settings.AIRFLOW_TOKEN_COMMAND_ENV, *(name for one in further for name in _texts(one))}
    ways = [settings.AIRFLOW_AUTH, *(str(one.get("auth")) for one in further)]
    clients = [prefix for way in ways for prefix in OF_WAYS.get(way, ())]
    names = {*settings.VARIABLES_READ, *files, *of_commands, "DJANGO_SETTINGS_MODULE"}
    return base() | _of(names, ("SVOPS_", "PG", *clients))


def of_airflows_file() -> dict[str, str]:
    """Return what only the command sees that loads AIRFLOWS_FILE: the file, and the variables that it refers to."""
    from svops import settings

    if not settings.AIRFLOWS_FILE:
        return {}
    text = Path(settings.AIRFLOWS_FILE).read_text(errors="replace")
    return {**_of(re.findall(r"\$\{([^}]*)\}", text), ()), "AIRFLOWS_FILE": settings.AIRFLOWS_FILE}


def _further() -> list[dict[str, Any]]:
    """Return what AIRFLOWS_FILE describes. The command that loads it says what is wrong with it."""
    from svops import settings

    content = None
    if settings.AIRFLOWS_FILE:
        with suppress(yaml.YAMLError):
            content = yaml.safe_load(Path(settings.AIRFLOWS_FILE).read_text(errors="replace"))
    return [one for one in content if isinstance(one, dict)] if isinstance(content, list) else []


def _texts(one: Mapping[str, Any]) -> list[str]:
    names = one.get("token_command_env")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def without_admin(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(ADMIN_PREFIX)}


def _of(names: Iterable[str], prefixes: tuple[str, ...]) -> dict[str, str]:
    wanted = frozenset(names)
    return {name: value for name, value in os.environ.items() if name in wanted or name.startswith(prefixes)}
