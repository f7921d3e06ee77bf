"""One row of everything that an endpoint can be about, and users with every kind of right to it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import Group
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import api_keys, tickets
from accounts.authentication import caller_of
from accounts.identity import Scope, TicketAction
from accounts.models import ApiKey, AuditEntry, Identity, Role, SignIn, Ticket, User
from notifications.models import Delivery, Kind, NotificationConfig
from workflows import services as workflows
from workflows.dagrules import DagMatch, DagRule
from workflows.models import Dag, Event, Grant, Level, Run, Visibility, Workflow
from workflows.states import RunState
from workflows.tests.stage import SCHEMA, dag_task, new_run

PASSWORD = "correct horse battery"
HOUR = timedelta(hours=1)
RUN_ONLY = frozenset({Scope.WORKFLOW_READ, Scope.RUN_TRIGGER})
TABLES = [
    User, Identity, SignIn, ApiKey, Ticket, Dag, DagRule, Workflow, Grant, Run, Event, NotificationConfig, Delivery,
    AuditEntry,
]  # fmt: skip

ROLES = {
    "viewer": Role.VIEWER,
    "stranger": Role.USER,
    "may view": Role.USER,
    "may run": Role.USER,
    "may manage": Role.USER,
    "owner": Role.USER,
    "admin": Role.ADMIN,
}
GRANTED = {"may view": Level.VIEW, "may run": Level.RUN, "may manage": Level.MANAGE}


@dataclass
class World:
    """A private workflow of `owner` with a run, and one of everything else that has an id."""

    users: dict[str, User]
    workflow: Workflow
    run: Run
    grant: Grant
    api_key: ApiKey
    ticket: Ticket
    config: NotificationConfig
    delivery: Delivery
    dag_rule: DagRule

    def path(self, template: str) -> str:
        """Fill in the ids of this world."""
        return template.format(
            workflow=self.workflow.pk,
            run=self.run.pk,
            grant=self.grant.pk,
            api_key=self.api_key.pk,
            ticket=self.ticket.pk,
            user=self.users["stranger"].pk,
            config=self.config.pk,
            delivery=self.delivery.pk,
            dag_rule=self.dag_rule.pk,
        )

    def give_to(self, admin: User) -> None:
        """Make the admin the owner of what only its owner can see."""
        self.config.owner, self.api_key.user, self.ticket.user = admin, admin, admin
        for owned in (self.config, self.api_key, self.ticket):
            owned.save()


def new_world() -> World:
    users = {
        name: User.objects.create_user(name.replace(" ", "-"), f"{number}@example.com", PASSWORD, role=role)
        for number, (name, role) in enumerate(ROLES.items())
    }
    owner = users["owner"]
    workflow = _private_workflow(users)
    run = new_run(workflow, RunState.PENDING)
    config = NotificationConfig.objects.create(name="mine", channel="webhook", owner=owner, enabled=False)
    analysts, now = Group.objects.create(name="analysts"), timezone.now()
    return World(
        users=users,
        workflow=workflow,
        run=run,
        grant=workflows.grant(workflow=workflow, actor=owner, level=Level.VIEW, group=analysts).grant,
        api_key=new_key(owner, RUN_ONLY).api_key,
        ticket=new_ticket(owner, run, "view").ticket,
        config=config,
        delivery=Delivery.objects.create(config=config, kind=Kind.TEST, created_at=now, due_at=now),
        dag_rule=DagRule.objects.create(match=DagMatch.DAG_ID, value="etl", user=owner),
    )


def _private_workflow(users: dict[str, User]) -> Workflow:
    owner = users["owner"]
    dag = Dag.objects.create(dag_id="etl", params_schema=SCHEMA, tasks=[dag_task("extract")])
    workflow = Workflow.objects.create(name="Secret", dag=dag, owner=owner, visibility=Visibility.PRIVATE)
    for name, level in GRANTED.items():
        workflows.grant(workflow=workflow, actor=owner, level=level, user=users[name])
    return workflow


def new_key(user: User, scopes: frozenset[str], *, workflow_ids: Collection[int] | None = None) -> api_keys.NewKey:
    return api_keys.create_key(caller=caller_of(user), name="test", scopes=scopes, workflow_ids=workflow_ids)


def new_ticket(user: User, run: Run, *actions: str) -> tickets.NewTicket:
    return tickets.issue_ticket(
        caller=caller_of(user),
        run_id=run.pk,
        workflow_id=run.workflow_id,
        actions=[TicketAction(action) for action in actions],
        seconds=60,
    )


def client_of(token: str) -> APIClient:
    client = APIClient(raise_request_exception=False)
    if token:
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def stored() -> dict[str, list[dict[str, Any]]]:
    """Return all rows, except for what authentication itself records: uses of keys and wrong passwords."""
    rows = {model.__name__: list(model._base_manager.order_by("pk").values()) for model in TABLES}
    for row in rows["ApiKey"]:
        row["last_used_at"] = None
    rows["AuditEntry"] = [row for row in rows["AuditEntry"] if row["action"] != "auth.sign_in_failed"]
    return rows


@contextmanager
def writes() -> Iterator[list[str]]:
    """Collect the statements of this connection that may change a row. Reading all rows takes much longer."""
    found: list[str] = []

    def note(execute: Any, sql: str, *args: Any) -> Any:
        if sql.split(maxsplit=1)[0] not in {"SELECT", "SAVEPOINT", "RELEASE", "ROLLBACK"}:
            found.append(sql)
        return execute(sql, *args)

    with connection.execute_wrapper(note):
        yield found
