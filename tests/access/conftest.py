"""One of everything that an endpoint can be about, and everybody who can ask for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import jwt
import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import Group
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts import api_keys, services, tickets
from accounts.authentication import caller_of
from accounts.identity import Scope, TicketAction
from accounts.models import ApiKey, AuditEntry, Identity, Role, SignIn, Ticket, User
from notifications.models import Delivery, Kind, NotificationConfig
from svops.local.ports import free_port
from workflows import services as workflows
from workflows import upstream
from workflows.models import Dag, Event, Grant, Level, Run, Visibility, Workflow
from workflows.states import RunState
from workflows.tests.stage import SCHEMA, dag_task, new_run

PASSWORD = "correct horse battery"
HOUR = timedelta(hours=1)
RUN_ONLY = frozenset({Scope.WORKFLOW_READ, Scope.RUN_TRIGGER})
TABLES = [
    User, Identity, SignIn, ApiKey, Ticket, Dag, Workflow, Grant, Run, Event, NotificationConfig, Delivery, AuditEntry,
]  # fmt: skip


@dataclass
class World:
    """A private workflow of `owner`, with a run, and what else has an id."""

    users: dict[str, User]
    workflow: Workflow
    run: Run
    grant: Grant
    api_key: ApiKey
    ticket: Ticket
    config: NotificationConfig
    delivery: Delivery

    def path(self, template: str) -> str:
        return template.format(
            workflow=self.workflow.pk,
            run=self.run.pk,
            grant=self.grant.pk,
            api_key=self.api_key.pk,
            ticket=self.ticket.pk,
            user=self.users["stranger"].pk,
            config=self.config.pk,
            delivery=self.delivery.pk,
        )


ROLES = {
    "viewer": Role.VIEWER,
    "stranger": Role.USER,
    "may view": Role.USER,
    "may run": Role.USER,
    "may manage": Role.USER,
    "owner": Role.USER,
    "admin": Role.ADMIN,
}


@pytest.fixture
def world(db: None, settings: Settings) -> World:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.AIRFLOW_URL = f"http://127.0.0.1:{free_port()}"
    settings.INGEST_SECRET = "a secret of the listener"
    upstream.airflow.cache_clear()
    users = {
        name: User.objects.create_user(name.replace(" ", "-"), f"{n}@example.com", PASSWORD, role=role)
        for n, (name, role) in enumerate(ROLES.items())
    }
    owner = users["owner"]
    dag = Dag.objects.create(dag_id="etl", params_schema=SCHEMA, tasks=[dag_task("extract")])
    workflow = Workflow.objects.create(name="Secret", dag=dag, owner=owner, visibility=Visibility.PRIVATE)
    for name, level in (("may view", Level.VIEW), ("may run", Level.RUN), ("may manage", Level.MANAGE)):
        workflows.grant(workflow=workflow, actor=owner, level=level, user=users[name])
    group = Group.objects.create(name="analysts")
    run = new_run(workflow, RunState.PENDING)
    config = NotificationConfig.objects.create(name="mine", channel="webhook", owner=owner, enabled=False)
    return World(
        users=users,
        workflow=workflow,
        run=run,
        grant=workflows.grant(workflow=workflow, actor=owner, level=Level.VIEW, group=group).grant,
        api_key=_key(owner, RUN_ONLY).api_key,
        ticket=_ticket(owner, run, "view").ticket,
        config=config,
        delivery=Delivery.objects.create(
            config=config, kind=Kind.TEST, created_at=timezone.now(), due_at=timezone.now()
        ),
    )


def _key(user: User, scopes: frozenset[str], **fields: Any) -> api_keys.NewKey:
    return api_keys.create_key(caller=caller_of(user), name="test", scopes=scopes, **fields)


def _ticket(user: User, run: Run, *actions: str) -> tickets.NewTicket:
    return tickets.issue_ticket(
        caller=caller_of(user),
        run_id=run.pk,
        workflow_id=run.workflow_id,
        actions=[TicketAction(action) for action in actions],
        ttl=timedelta(minutes=1),
    )


def _forged(user: User, *, key: str | None = None, algorithm: str = "HS256", **claims: Any) -> str:
    """A token of a live sign-in, made by somebody who does not have our key, or with other claims."""
    services.sign_in(user=user)
    now = timezone.now()
    payload = {
        "token_type": "access", "sub": str(user.pk), "sid": str(user.sign_ins.first().pk), "jti": "1" * 32,  # type: ignore[union-attr]
        "role": user.role, "scopes": sorted(Scope), "aud": "svops", "iss": "svops", "iat": now, "exp": now + HOUR,
    } | claims  # fmt: skip
    signed_with = django_settings.SECRET_KEY if key is None else key
    return jwt.encode(payload, signed_with if algorithm != "none" else "", algorithm=algorithm)


def _revoked(world: World) -> str:
    tokens = services.sign_in(user=world.users["admin"])
    services.logout(refresh_token=tokens.refresh_token)
    return tokens.access_token


# Everybody who can ask, by the token that they show. What is below the line is nobody.
CALLERS: dict[str, Callable[[World], str]] = {
    "anonymous": lambda world: "",
    **{name: lambda world, name=name: services.sign_in(user=world.users[name]).access_token for name in ROLES},  # type: ignore[misc]
    "key": lambda world: _key(world.users["owner"], RUN_ONLY).text,
    "bounded key": lambda world: _key(world.users["admin"], RUN_ONLY, workflow_ids=[world.workflow.pk]).text,
    "ticket": lambda world: _ticket(world.users["owner"], world.run, "view").text,
}
FORGERIES: dict[str, Callable[[World], str]] = {
    "expired": lambda world: _forged(world.users["admin"], exp=timezone.now() - HOUR),
    "algorithm none": lambda world: _forged(world.users["admin"], algorithm="none"),
    "wrong key": lambda world: _forged(world.users["admin"], key="not ours, but long enough for an HMAC with SHA-256"),
    "wrong audience": lambda world: _forged(world.users["admin"], aud="elsewhere"),
    "wrong issuer": lambda world: _forged(world.users["admin"], iss="elsewhere"),
    "refresh token": lambda world: services.sign_in(user=world.users["admin"]).refresh_token,
    "signed out": _revoked,
    "no such key": lambda world: "svops_0123456789ab_" + "x" * 43,
    "no such ticket": lambda world: "svopst_0123456789ab_" + "x" * 43,
}


def client_of(token: str) -> APIClient:
    client = APIClient(raise_request_exception=False)
    if token:
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def stored() -> str:
    """All rows, but for what authentication notes of its own: that a key was used, that a password was wrong."""
    rows = {model.__name__: list(model._base_manager.order_by("pk").values()) for model in TABLES}
    for row in rows["ApiKey"]:
        row["last_used_at"] = None
    rows["AuditEntry"] = [row for row in rows["AuditEntry"] if row["action"] != "auth.sign_in_failed"]
    return json.dumps(rows, default=str)
