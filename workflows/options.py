"""The options of the way to an Airflow: what each must be like, which are secret, and who may give them.

The settings `AIRFLOW_…` are the options of the default Airflow. Those of the others are checked here, before they are
stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from rest import values
from rest.errors import InvalidInputError
from workflows.airflow.access import COMMAND, GOOGLE, INVOKE, MWAA, NAMES, OAUTH2, PASSWORD, TOKEN, WEB_TOKEN

Options = Mapping[str, Any]
LONGEST = 10_000  # characters
OAUTH2_METHODS = ("client_secret_basic", "client_secret_post", "airflow")
MWAA_METHODS = (WEB_TOKEN, INVOKE)


@dataclass(frozen=True, kw_only=True)
class Option:
    """`check` returns the value, or raises `ValueError` with what was expected.

    A secret one is sealed at rest and never shown. A local one reads a file of SVOps' server, or runs a program there.
    """

    check: Callable[[Any], Any]
    is_secret: bool = False
    is_local: bool = False


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable() or len(value) > LONGEST:
        raise ValueError(f"must be one line of text, of at most {LONGEST} characters")
    return value


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list of texts")
    return [_text(item) for item in value]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")
    return float(value)


def _one_of(choices: tuple[str, ...], value: Any) -> str:
    if value not in choices:
        raise ValueError(f"must be one of {', '.join(choices)}")
    return str(value)


def _of_text(check: Callable[[str], Any], value: Any) -> Any:
    return check(_text(value))


def _of_number(check: Callable[[float], float], value: Any) -> float:
    return check(_number(value))


def _headers(value: Any) -> dict[str, str]:
    given = values.headers(value)
    if sum(len(name) + len(text) for name, text in given.items()) > LONGEST:
        raise ValueError(f"must have at most {LONGEST} characters")
    return given


def _program(value: Any) -> list[str]:
    words = _texts(value)
    if not words:
        raise ValueError("must be a list of texts: a program and its arguments")
    return list(values.program(words))


def _own_url(value: str) -> str:
    # It is shown: it must hold no password.
    values.web_address(value)
    return values.secure_url(value)


_FILE = Option(check=partial(_of_text, values.file), is_local=True)
_TEXT = Option(check=_text)
_SECRET = Option(check=_text, is_secret=True)

TABLE: dict[str, Option] = {
    "url": Option(check=partial(_of_text, values.web_address)),
    "auth": Option(check=partial(_one_of, NAMES)),
    "username": _TEXT,
    "password": _SECRET,
    "token": Option(check=partial(_of_text, values.token), is_secret=True),
    "token_file": _FILE,
    "oauth2_token_url": Option(check=partial(_of_text, _own_url)),
    "oauth2_client_id": _TEXT,
    "oauth2_client_secret": _SECRET,
    "oauth2_scope": _TEXT,
    "oauth2_audience": _TEXT,
    "oauth2_method": Option(check=partial(_one_of, OAUTH2_METHODS)),
    "google_credentials": _FILE,
    "google_audience": _TEXT,
    "mwaa_environment": _TEXT,
    "mwaa_region": _TEXT,
    "mwaa_method": Option(check=partial(_one_of, MWAA_METHODS)),
    # Its arguments may be secrets.
    "token_command": Option(check=_program, is_secret=True, is_local=True),
    "token_command_env": Option(check=_texts, is_local=True),
    "token_timeout": Option(check=partial(_of_number, values.seconds)),
    "headers": Option(check=_headers, is_secret=True),
    "ca_file": Option(check=partial(_of_text, values.authorities), is_local=True),
    "client_cert": _FILE,
    "client_key": _FILE,
    "proxy": Option(check=partial(_of_text, partial(values.web_address, may_have_user=True)), is_secret=True),
    "max_requests_per_second": Option(check=partial(_of_number, values.per_second)),
    "ingest_secret": _SECRET,
}
SECRET = frozenset(name for name, option in TABLE.items() if option.is_secret)
LOCAL = frozenset(name for name, option in TABLE.items() if option.is_local)
# Where secrets are sent.
DESTINATIONS = ("url", "oauth2_token_url", "proxy")
# What each way needs. One of those that are separated by "|" is enough.
NEEDED: dict[str, tuple[str, ...]] = {
    PASSWORD: ("username", "password"),
    TOKEN: ("token|token_file",),
    OAUTH2: ("oauth2_token_url", "oauth2_client_id", "oauth2_client_secret"),
    GOOGLE: (),
    MWAA: ("mwaa_environment",),
    COMMAND: ("token_command",),
}
# Ways that use what only SVOps' server has: its cloud identity, or its programs. With one of them, whoever names the
# address gets what this identity may do.
BY_SERVER = (GOOGLE, MWAA, COMMAND)
LIBRARIES = {GOOGLE: "google.auth", MWAA: "botocore"}


def checked(given: Options, *, from_file: bool) -> dict[str, Any]:
    """Return the options with each value checked by itself. Raises `InvalidInputError` with a message for each.

    The local ones are accepted only from an operator's file. A value is not repeated: it may be a secret.
    """
    errors: dict[str, list[str]] = {}
    options: dict[str, Any] = {}
    for name, value in given.items():
        try:
            options[name] = _checked(name, value, from_file=from_file)
        except ValueError as exc:
            errors[name] = [_sentence(exc)]
    if errors:
        raise InvalidInputError(errors)
    return options


def _checked(name: str, value: Any, *, from_file: bool) -> Any:
    option = TABLE.get(name)
    if option is None:
        raise ValueError(f"unknown option; expected one of {', '.join(TABLE)}")
    if option.is_local and not from_file:
        raise ValueError(
            "reads a file, or runs a program, on the server of SVOps: only the operator can give it, in AIRFLOWS_FILE"
        )
    if name == "auth" and value in BY_SERVER and not from_file:
        raise ValueError(
            f"{value} uses the identity of SVOps' server: only the operator can choose it, in AIRFLOWS_FILE"
        )
    return option.check(value)


def _sentence(exc: ValueError) -> str:
    text = str(exc)
    return f"{text[0].upper()}{text[1:]}."


def check_together(options: Options) -> None:
    """Check that the options describe a way to an Airflow. Raises `InvalidInputError` with a message for each."""
    auth = options.get("auth", PASSWORD)
    errors: dict[str, list[str]] = {} if options.get("url") else {"url": ["Required."]}
    for names in _needed(options, auth):
        alternatives = names.split("|")
        if not any(options.get(name) for name in alternatives):
            errors[alternatives[0]] = [f"Required with auth {auth}{_or_else(alternatives)}."]
    if "token" in options and "token_file" in options:
        errors["token"] = ["One of token and token_file is expected."]
    if options.get("client_key") and not options.get("client_cert"):
        errors["client_cert"] = ["Required with client_key."]
    elif options.get("client_cert"):
        errors |= _of_certificate(options)
    if (library := LIBRARIES.get(auth)) and not values.is_installed(library):
        errors["auth"] = [f"{auth} needs more libraries on SVOps' server: those of requirements-ways.txt."]
    if errors:
        raise InvalidInputError(errors)


def _needed(options: Options, auth: str) -> tuple[str, ...]:
    needed = NEEDED[auth]
    is_asked_at_airflow = options.get("oauth2_method") == "airflow"
    return tuple(name for name in needed if name != "oauth2_token_url" or not is_asked_at_airflow)


def _or_else(alternatives: list[str]) -> str:
    return f", or {alternatives[1]} in AIRFLOWS_FILE" if alternatives[1:] else ""


def _of_certificate(options: Options) -> dict[str, list[str]]:
    try:
        values.certificate(options["client_cert"], key=options.get("client_key", ""))
    except ValueError as exc:
        return {"client_cert": [_sentence(exc)]}
    return {}


def check_secrets_stay(before: Options, after: Options, given: Options) -> None:
    """Refuse a change that would send a stored secret somewhere else, where it could be read.

    The change gives each of them anew, or takes it away.
    """
    moved = [name for name in DESTINATIONS if name in after and before.get(name) != after[name]]
    kept = sorted((SECRET & after.keys()) - given.keys() - {"ingest_secret", *moved})
    if moved and kept:
        raise InvalidInputError({name: [f"Required again with another {moved[0]}."] for name in kept})
