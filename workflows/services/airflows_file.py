"""Further Airflows from an operator's file, `AIRFLOWS_FILE`.

    - name: prod
      url: https://airflow.example.com
      username: svops
      password: ${PROD_PASSWORD}        # a variable of the environment
      ingest_secret_file: /run/secrets/prod_ingest

Options are called as in `workflows.options`. The file is read as a whole before anything changes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from django.db import transaction

from rest.errors import InvalidInputError
from workflows.models import Airflow
from workflows.naming import DEFAULT
from workflows.services.airflows import change_airflow, create_airflow, options_of

# `token_file` is an option of its own: it is read again when the token changes.
IN_FILES = ("password", "oauth2_client_secret", "headers", "proxy", "ingest_secret")
REFERENCE = re.compile(r"\$(?P<escape>\$)?\{(?P<name>[^}]*)\}")
LIST = 'a list of Airflows, like "- name: prod", or [] for none'


class WrongFileError(Exception):
    """`str()` is one sentence that names the entry, the field and what was expected. Nothing has changed."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    name: str
    options: Mapping[str, Any]


class Loaded(NamedTuple):
    """Names of Airflows. `gone` are no longer in the file."""

    added: Sequence[str]
    changed: Sequence[str]
    gone: Sequence[str]


@transaction.atomic
def load_airflows(entries: Sequence[Entry]) -> Loaded:
    """Add and change Airflows as the file describes them. One that is no longer in it becomes inactive.

    Raises `WrongFileError`.
    """
    # One process after the other: several may start with the same file.
    Airflow.objects.select_for_update().get(pk=Airflow.default().pk)
    known = {row.name: row for row in Airflow.objects.all()}
    added: list[str] = []
    changed: list[str] = []
    for entry in entries:
        if _load(entry, known.get(entry.name)):
            (changed if entry.name in known else added).append(entry.name)
    named = {entry.name for entry in entries}
    gone = [row for row in known.values() if row.from_file and row.is_active and row.name not in named]
    for row in gone:
        change_airflow(actor=None, airflow=row, is_active=False, from_file=True)
    return Loaded(added, changed, [row.name for row in gone])


def _load(entry: Entry, row: Airflow | None) -> bool:
    """Add or change one. Return whether anything is different now."""
    try:
        if row is None:
            create_airflow(actor=None, name=entry.name, options=entry.options, from_file=True)
            return True
        after = change_airflow(actor=None, airflow=row, options=entry.options, is_active=True, from_file=True)
    except InvalidInputError as exc:
        field, messages = next(iter(exc.errors.items()))
        raise WrongFileError(f"{entry.name}: {field}: {_inside(messages[0])}.") from exc
    return _facts(row) != _facts(after)


def _facts(row: Airflow) -> tuple[object, ...]:
    return options_of(row), row.is_active, row.from_file


def _inside(message: str) -> str:
    """Return a sentence as the rest of another one."""
    return f"{message[0].lower()}{message[1:].removesuffix('.')}"


def read(path: Path, environment: Mapping[str, str]) -> list[Entry]:
    """Return what the file describes, with all references resolved. Raises `WrongFileError`."""
    try:
        content = yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506 - a safe loader
    except (OSError, UnicodeDecodeError) as exc:
        raise WrongFileError(f"It cannot be read: {type(exc).__name__}.") from exc
    except yaml.MarkedYAMLError as exc:
        where = f"Line {exc.problem_mark.line + 1}" if exc.problem_mark else "YAML"
        raise WrongFileError(f"{where}: {exc.problem}.") from exc
    except yaml.YAMLError as exc:
        raise WrongFileError("It is no YAML.") from exc
    if not isinstance(content, list):
        raise WrongFileError(f"It must be {LIST}.")
    entries = [_entry(number, item, environment) for number, item in enumerate(content, start=1)]
    names = [entry.name for entry in entries]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise WrongFileError(f"{twice}: name: must be there once.")
    return entries


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice: the first value would be ignored."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is there twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _entry(number: int, item: object, environment: Mapping[str, str]) -> Entry:
    if not isinstance(item, dict):
        raise WrongFileError(f"Entry {number} must be options with a name, like {{name: prod, url: https://host}}.")
    name = item.get("name")
    if not isinstance(name, str) or not name:
        raise WrongFileError(f"Entry {number}: name: must be a text, like prod.")
    if name == DEFAULT:
        raise WrongFileError(f"{name}: name: the settings AIRFLOW_… describe this one, another name is expected.")
    given = {str(option): value for option, value in item.items() if option != "name"}
    try:
        return Entry(name=name, options=_resolved(given, environment))
    except _WrongOptionError as exc:
        raise WrongFileError(f"{name}: {exc.option}: {exc}.") from exc


class _WrongOptionError(Exception):
    def __init__(self, option: str, expected: str) -> None:
        super().__init__(expected)
        self.option = option


def _resolved(given: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for option, value in given.items():
        if value is None:
            raise _WrongOptionError(option, "must have a value")
        options[option] = _replaced(option, value, environment)
    for option in IN_FILES:
        if (file := f"{option}_file") in options:
            if option in options:
                raise _WrongOptionError(option, f"one of {option} and {file} is expected")
            options[option] = _content(file, options.pop(file), is_json=option == "headers")
    return options


def _replaced(option: str, value: Any, environment: Mapping[str, str]) -> Any:
    """Return the value with variables in place of `${NAME}`. `$${` stands for `${`."""
    if isinstance(value, list):
        return [_replaced(option, item, environment) for item in value]
    if isinstance(value, dict):
        return {key: _replaced(option, item, environment) for key, item in value.items()}
    if not isinstance(value, str):
        return value

    def content(found: re.Match[str]) -> str:
        if found["escape"]:
            return found[0][1:]
        if not environment.get(found["name"]):
            raise _WrongOptionError(option, f"the variable {found['name']} must be set")
        return environment[found["name"]]

    return REFERENCE.sub(content, value)


def _content(option: str, path: object, *, is_json: bool) -> Any:
    if not isinstance(path, str):
        raise _WrongOptionError(option, "must be the path of a file")
    try:
        text = Path(path).read_text().strip()
        return json.loads(text) if is_json else text
    except OSError as exc:
        raise _WrongOptionError(option, f"{path!r} cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise _WrongOptionError(option, f"{path!r} must hold {'a JSON object' if is_json else 'text'}") from exc
