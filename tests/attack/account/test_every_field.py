"""Every writable field of every endpoint gets values that are wrong and values that are forbidden."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import transaction
from drf_spectacular.generators import SchemaGenerator
from pytest_django import Settings

from accounts import services
from tests.access.table import TABLE
from tests.access.world import PASSWORD, World, client_of, stored, writes
from tests.attack.account.fields import Description, Schema

pytestmark = pytest.mark.usefixtures("one_connection")

Key = tuple[str, str]

# Bodies that are accepted, where the table has another one.
GOOD: dict[Key, dict[str, Any]] = {
    ("register", "post"): {"username": "new", "email": "new@example.com", "password": "battery staple 9"},
    ("change-password", "post"): {"current_password": PASSWORD, "new_password": "battery staple 9"},
    ("begin-factor", "post"): {"current_password": PASSWORD},
    ("recovery-codes", "post"): {"current_password": PASSWORD, "code": "000000"},
    ("disable-factor", "post"): {"current_password": PASSWORD, "code": "000000"},
    ("notification-config-list", "post"): {
        "name": "New",
        "channel": "webhook",
        "url": "https://8.8.8.8/hook",
        "notification_types": ["workflow_failed"],
    },
    ("notification-delivery-redeliver-range", "post"): {"config_id": "{config}", "since": "2026-01-01T00:00:00Z"},
}
# Parts that fit, for fields that consist of parts.
PARTS: dict[str, dict[str, Any]] = {
    "quiet_hours": {"begin": "22:00", "end": "07:00"},
    "data_interval": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"},
    "ticket": {"actions": ["view"], "ttl": 60},
}


@dataclass(frozen=True)
class Forbidden:
    """A value that fits its description, and that `who` must not give. `names` is false for sign-ins: their answer
    does not say which field is wrong.
    """

    value: Any
    who: str = "stranger"
    status: int = 400
    beside: Mapping[str, Any] | None = None
    names: bool = True


@dataclass(frozen=True)
class Free:
    """Everything that fits the description may be given."""

    why: str


TEXT = Free("a text for people")
BOUNDED = Free("its description has every bound")
OWN = Free("it changes only what the caller may change anyway")
ELSEWHERE = Free("each item has its own answer: see workflows/api/tests/test_triggering.py")

_TAKEN_NAME, _TAKEN_ADDRESS = Forbidden("viewer"), Forbidden("0@example.com")
_WEAK = Forbidden("password")
_HERE = "http://127.0.0.1:6379/"
_REFUSED_BY_THE_DAG = Forbidden({"rows": 0}, who="owner")


def by_admin(forbidden: Forbidden) -> Forbidden:
    return Forbidden(forbidden.value, "admin", forbidden.status, forbidden.beside, forbidden.names)


RULES: dict[Key, dict[str, Forbidden | Free]] = {
    ("register", "post"): {
        "username": _TAKEN_NAME, "email": _TAKEN_ADDRESS, "name": TEXT, "password": _WEAK,
    },
    ("login", "post"): {
        "username": Forbidden("viewer", status=401, names=False),
        "password": Forbidden("wrong", status=401, names=False),
        "code": Free("it counts only for an account with a second factor: see tests/attack/test_second_factor.py"),
    },
    ("oidc", "post"): {"id_token": Forbidden("x.y.z", status=404, names=False)},
    ("refresh", "post"): {"refresh_token": Forbidden("x.y.z", status=401, names=False)},
    ("logout", "post"): {"refresh_token": Forbidden("x.y.z", status=401, names=False)},
    ("me", "patch"): {"name": TEXT, "email": _TAKEN_ADDRESS},
    ("change-password", "post"): {"current_password": Forbidden("not mine"), "new_password": _WEAK},
    ("begin-factor", "post"): {"current_password": Forbidden("not mine")},
    ("confirm-factor", "post"): {"code": Forbidden("000000")},
    ("recovery-codes", "post"): {"current_password": Forbidden("not mine"), "code": Forbidden("000000")},
    ("disable-factor", "post"): {"current_password": Forbidden("not mine"), "code": Forbidden("000000")},
    ("user-list", "post"): {
        "username": by_admin(_TAKEN_NAME), "email": by_admin(_TAKEN_ADDRESS), "name": TEXT, "password": by_admin(_WEAK),
        "role": OWN,
    },
    ("user-detail", "patch"): {"name": TEXT, "email": by_admin(_TAKEN_ADDRESS), "role": OWN, "is_active": OWN},
    ("api-key-list", "post"): {
        "name": TEXT,
        "scopes": Forbidden(["user:admin"]),
        "workflow_ids": Forbidden(["{workflow}"]),
        "expires_at": Forbidden("2020-01-01T00:00:00Z"),
    },
    ("api-key-rotate", "post"): {"grace_seconds": BOUNDED},
    ("ticket-list", "post"): {
        "run_id": Forbidden("{run}"),
        "actions": Forbidden(["control"], who="may view"),
        "ttl": Forbidden(10**9, who="owner"),
    },
    ("airflow-list", "post"): {
        "name": Forbidden("default", who="admin"),
        "url": Forbidden("https://user:password@airflow.example.com", who="admin"),
        "auth": Forbidden("google", who="admin"),
        "options": Forbidden({"token_file": "/etc/passwd"}, who="admin"),
        "is_active": OWN,
    },
    ("airflow-detail", "patch"): {
        "url": Forbidden("https://airflow.example.com", who="admin"),
        "auth": Forbidden("token", who="admin"),
        "options": Forbidden({"username": "somebody"}, who="admin"),
        "is_active": OWN,
        "drained": OWN,
    },
    ("dag-rule-list", "post"): {
        "airflow": Forbidden("nowhere", who="admin"),
        "match": BOUNDED,
        "value": Forbidden("etl", who="admin", beside={"match": "all"}),
        "user": Forbidden("nobody", who="admin"),
        "group": Forbidden("no such group", who="admin", beside={"user": ...}),
        "level": BOUNDED,
    },
    ("workflow-list", "post"): {
        "name": TEXT, "description": TEXT, "dag_id": Forbidden("no_such_dag"), "is_active": OWN,
        "airflow": Free("what is forbidden is a DAG of it: see workflows/api/tests/test_airflows.py"),
        "default_parameters": _REFUSED_BY_THE_DAG, "visibility": OWN,
        "adopts_airflow_runs": Forbidden(True, status=403),
        "result_task": TEXT,
    },
    ("workflow-detail", "patch"): {
        "name": TEXT, "description": TEXT, "dag_id": Forbidden("no_such_dag", who="owner"), "is_active": OWN,
        "airflow": Forbidden("nowhere", who="owner"),
        "default_parameters": _REFUSED_BY_THE_DAG, "visibility": OWN,
        "adopts_airflow_runs": Forbidden(True, who="owner", status=403),
        "result_task": TEXT,
    },
    ("workflow-pause", "post"): {"note": TEXT},
    ("workflow-resume", "post"): {"note": TEXT},
    ("workflow-grants", "post"): {
        "user": Forbidden("nobody", who="owner"),
        "group": Forbidden("no such group", who="owner"),
        "level": BOUNDED,
    },
    ("workflow-run-list", "post"): {
        "parameters": _REFUSED_BY_THE_DAG, "task_id": TEXT, "dataset_id": TEXT, "note": TEXT,
        "caller_task_ref": TEXT, "caller_dataset_ref": TEXT,
        "run_at": Forbidden("2020-01-01T00:00:00Z", who="owner"),
        "logical_date": Forbidden("2026-01-01T00:00:00", who="owner"),
        "data_interval": Forbidden(PARTS["data_interval"], who="owner"),
        "ticket": Forbidden({"actions": ["view"], "ttl": 10**9}, who="owner"),
    },
    ("workflow-run-batch", "post"): {"items": ELSEWHERE},
    ("workflow-run-validate", "post"): {
        "parameters": Free("the answer says whether they are valid"), "task_id": TEXT, "dataset_id": TEXT,
        "caller_task_ref": TEXT, "caller_dataset_ref": TEXT, "note": TEXT,
        "run_at": Forbidden("2020-01-01T00:00:00Z", who="owner"),
        "logical_date": Forbidden("2026-01-01T00:00:00", who="owner"),
        "data_interval": Forbidden(PARTS["data_interval"], who="owner"),
        "ticket": Forbidden({"actions": ["view"], "ttl": 10**9}, who="owner"),
    },
    ("workflow-run-control", "post"): {
        "action": BOUNDED,
        "note": TEXT,
        "mode": Forbidden("failed", who="owner"),
        "from_task": Forbidden("extract", who="owner"),
        "map_index": Forbidden(0, who="owner"),
        "dry_run": Forbidden(True, who="owner"),
        "scope": Forbidden("workflow", who="owner"),
    },
    ("notification-config-list", "post"): {
        "name": TEXT,
        "channel": Forbidden("canary"),
        "webhook_url": Forbidden(_HERE, beside={"channel": "slack", "url": ...}),
        "url": Forbidden(_HERE),
        "recipients": Forbidden(["0@example.com"]),
        "notification_types": BOUNDED,
        "filters": Forbidden({"workflows": ["{workflow}"]}),
        "enabled": OWN,
        "for_everyone": Forbidden(True, status=403),
        "fold_repeats": OWN,
        "quiet_hours": Forbidden({"begin": "22:00", "end": "22:00"}),
        "max_in_flight": BOUNDED,
        "secret": Forbidden("too short"),
        "secrets": Forbidden(["too short"]),
    },
    ("notification-config-detail", "patch"): {
        "name": TEXT,
        "channel": Forbidden("email", who="owner"),
        "webhook_url": Forbidden("https://8.8.8.8/hook", who="owner"),
        "url": Forbidden(_HERE, who="owner"),
        "recipients": Forbidden(["0@example.com"], who="owner"),
        "notification_types": BOUNDED,
        "filters": Forbidden({"workflows": [10**9]}, who="owner"),
        "enabled": OWN,
        "for_everyone": Forbidden(True, who="owner"),
        "fold_repeats": OWN,
        "quiet_hours": Forbidden({"begin": "22:00", "end": "22:00"}, who="owner"),
        "max_in_flight": BOUNDED,
        "secret": Forbidden("too short", who="owner"),
        "secrets": Forbidden(["too short"], who="owner"),
    },
    ("notification-config-disable", "post"): {"reason": TEXT},
    ("notification-delivery-redeliver-range", "post"): {
        "config_id": Forbidden("{config}"),
        "since": BOUNDED,
        "until": BOUNDED,
        "status": Forbidden(["pending"], who="owner"),
    },
}  # fmt: skip

# What would give somebody more rights, or change a history, if it could be written.
READ_ONLY = {
    "id", "pk", "user", "user_id", "owner", "owner_id", "role", "is_staff", "is_superuser", "scopes", "bounds", "state",
    "credential_version", "created_at", "deleted_at", "digest", "prefix", "sealed_target", "target", "is_canary",
    "expires_at", "revoked_at", "trigger_type", "dag_run_id", "via", "groups", "workflow", "workflow_id",
}  # fmt: skip


@pytest.fixture(scope="module")
def description() -> Description:
    return Description(SchemaGenerator().get_schema(request=None, public=True))  # type: ignore[no-untyped-call]


def fields_of(key: Key, description: Description, world: World) -> dict[str, Schema]:
    """Return the writable fields of a row of the table: of the described paths that match, the most exact one's."""
    path = world.path(TABLE[key].path)
    fitting = {
        template: fields
        for template, method, fields in description.bodies()
        if method == key[1] and re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path)
    }
    return fitting[min(fitting, key=lambda template: template.count("{"))]


def filled(value: Any, world: World) -> Any:
    """Fill the ids of the world in, as numbers if they are numbers."""
    if isinstance(value, str) and re.fullmatch(r"{\w+}", value):
        text = world.path(value)
        return int(text) if text.isdecimal() else text
    if isinstance(value, list):
        return [filled(item, world) for item in value]
    return {name: filled(part, world) for name, part in value.items()} if isinstance(value, dict) else value


def body_of(key: Key, world: World) -> dict[str, Any]:
    return dict(filled(GOOD.get(key, TABLE[key].body or {}), world))


@dataclass(frozen=True)
class Answer:
    status: int
    body: dict[str, Any]
    changed: bool


def send(key: Key, world: World, token: str, body: dict[str, Any]) -> Answer:
    """Send the request. Each finds the same world."""
    point = transaction.savepoint()
    with writes() as written:
        answer = getattr(client_of(token), key[1])(world.path(TABLE[key].path), body)
    changed = bool(written) and stored() != before_of(point)
    transaction.savepoint_rollback(point)
    return Answer(answer.status_code, answer.json() if answer.content else {}, changed)


def before_of(point: str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows as they were at the savepoint. The caller has read what it needs from after it."""
    transaction.savepoint_rollback(point)
    return stored()


def names(answer: Answer, field: str) -> bool:
    """Return whether the errors name the field or a part of it."""
    return any(name == field or name.startswith(f"{field}.") for name in answer.body.get("errors", {}))


def test_every_writable_field_has_a_rule(description: Description, world: World) -> None:
    """Before: 0 of the 105 writable fields; nobody asked for each what must not be in it."""
    described = {}
    for key in TABLE:
        try:
            described[key] = set(fields_of(key, description, world))
        except ValueError:
            continue  # it takes no body

    assert {key: set(rules) for key, rules in RULES.items()} == described


@pytest.mark.parametrize("key", RULES, ids=str)
def test_a_wrong_value_is_400_with_the_name_of_its_field_and_changes_nothing(
    description: Description, world: World, settings: Settings, key: Key
) -> None:
    """Before: `PATCH /notifications/configs/{id} {"for_everyone": true}` was 500."""
    settings.OIDC_ISSUER = "https://identity.example"  # without one, the endpoint is 404
    settings.NOTIFICATION_TIMEOUT = 0.2
    world.give_to(world.users["admin"])
    token, good = services.sign_in(user=world.users["admin"]).access_token, body_of(key, world)

    problems = []
    for field, schema in fields_of(key, description, world).items():
        part = PARTS.get(field)
        for inner, value in description.wrong(schema, part):
            if inner and RULES[key][field] is ELSEWHERE:
                continue  # the items of a batch have an answer each
            answer = send(key, world, token, {**good, field: value})
            if (answer.status, answer.changed, names(answer, field)) != (400, False, True):
                problems.append((field, repr(value)[:60], answer))

    assert problems == []


FORBIDDEN = [
    (key, field) for key, rules in RULES.items() for field, rule in rules.items() if isinstance(rule, Forbidden)
]


@pytest.mark.parametrize(("key", "field"), FORBIDDEN, ids=str)
def test_a_forbidden_value_is_refused_with_the_name_of_its_field_and_changes_nothing(
    world: World, key: Key, field: str
) -> None:
    """Before: 500 for `for_everyone`; others were refused without the name of the field."""
    rule = RULES[key][field]
    assert isinstance(rule, Forbidden)
    token = services.sign_in(user=world.users[rule.who]).access_token
    body = {**body_of(key, world), **(rule.beside or {}), field: filled(rule.value, world)}

    answer = send(key, world, token, {name: value for name, value in body.items() if value is not ...})

    assert (answer.status, answer.changed) == (rule.status, False), answer.body
    assert names(answer, field) == rule.names, answer.body


@pytest.mark.parametrize("key", RULES, ids=str)
def test_a_field_that_only_answers_have_cannot_be_written(world: World, settings: Settings, key: Key) -> None:
    """Before: as now. A field that becomes writable by chance shows here."""
    settings.OIDC_ISSUER = "https://identity.example"
    world.give_to(world.users["admin"])
    token, good = services.sign_in(user=world.users["admin"]).access_token, body_of(key, world)

    for field in sorted(READ_ONLY - RULES[key].keys()):
        answer = send(key, world, token, {**good, field: 1})

        assert (answer.status, answer.changed, names(answer, field)) == (400, False, True), (field, answer.body)
