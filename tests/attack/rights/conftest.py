"""A platform on which DAGs are closed, with every kind of caller. These tests need no process of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.contrib.auth.models import Group
from pytest_django import Settings
from pytest_django.fixtures import db

from accounts import services as accounts
from accounts.identity import Scope
from accounts.models import Role, User
from runner.ports import free_port
from tests.access.world import client_of, new_key, new_ticket
from workflows import gateway, services
from workflows.dagrules import DagLevel, DagMatch
from workflows.models import Dag, Run, Visibility, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import SCHEMA, dag_task, new_run

__all__ = ["db"]  # pytest-django's own, in place of the one of the package above

TRACEBACK = 'File "sales.py", line 3\nOperationalError: postgresql://etl:hunter2secret@db.internal:5432/sales'
ROLES = {
    "without a rule": Role.USER,
    "viewer": Role.VIEWER,
    "by id": Role.USER,
    "by prefix": Role.USER,
    "by tag": Role.USER,
    "by group": Role.USER,
    "manager": Role.USER,
    "owner": Role.USER,
    "admin": Role.ADMIN,
}
RULES: dict[str, dict[str, Any]] = {
    "viewer": {"match": DagMatch.DAG_ID, "value": "sales_daily"},
    "by id": {"match": DagMatch.DAG_ID, "value": "sales_daily"},
    "by prefix": {"match": DagMatch.PREFIX, "value": "sales_"},
    "by tag": {"match": DagMatch.TAG, "value": "sales"},
    "manager": {"match": DagMatch.DAG_ID, "value": "sales_daily", "level": DagLevel.MANAGE},
    "owner": {"match": DagMatch.DAG_ID, "value": "sales_daily"},
}
ALL_SCOPES = frozenset(Scope) - {Scope.USER_ADMIN, Scope.AUDIT_READ, Scope.NOTIFICATION_WRITE}
CALLERS = ["anonymous", *ROLES, "key", "limited key", "ticket"]


@dataclass
class Office:
    """The DAG `sales_daily` is closed; `lobby` is open to everybody, and each user has a workflow over it.

    `secret` is a private workflow of "owner" over `sales_daily`, with a run that nobody else may know of; `mine` is a
    private one of "by id". The keys are those of "by id"; the limited one is for its workflow over `lobby`.
    """

    sales: Dag
    lobby: Dag
    users: dict[str, User] = field(default_factory=dict)
    own: dict[str, Workflow] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, (name, role) in enumerate(ROLES.items()):
            user = User.objects.create_user(f"office-{name}".replace(" ", "-"), f"o{number}@example.com", role=role)
            self.users[name] = user
            self.own[name] = self._workflow(f"{name}'s", self.lobby, user)
        self.open(match=DagMatch.DAG_ID, value="lobby")
        for name, rule in RULES.items():
            self.open(user=self.users[name], **rule)
        analysts = Group.objects.create(name="office-analysts")
        self.users["by group"].groups.add(analysts)
        self.open(group=analysts, match=DagMatch.TAG, value="sales")
        self.secret = self._workflow("Secret", self.sales, self.users["owner"])
        self.mine = self._workflow("Mine", self.sales, self.users["by id"])
        self.hidden_run = new_run(self.secret, RunState.RUNNING)

    def _workflow(self, name: str, dag: Dag, owner: User) -> Workflow:
        return Workflow.objects.create(name=name, dag=dag, owner=owner, visibility=Visibility.PRIVATE)

    def open(self, **rule: Any) -> services.Opened:
        return services.open_dags(actor=self.users["admin"], **rule)

    def close(self, name: str) -> None:
        """Withdraw the rules of one user."""
        for rule in self.users[name].dag_rules.all():
            services.close_dags(rule=rule, actor=self.users["admin"])

    def token(self, who: str) -> str:
        user = self.users["by id"]
        if who == "anonymous":
            return ""
        if who == "key":
            return new_key(user, ALL_SCOPES).text
        if who == "limited key":
            return new_key(user, ALL_SCOPES, workflow_ids=[self.own["by id"].pk]).text
        if who == "ticket":
            return new_ticket(user, new_run(self.mine), "view", "stop", "retry", "logs").text
        return accounts.sign_in(user=self.users[who]).access_token

    def ask(self, who: str, method: str, path: str, body: Any = None) -> Any:
        return getattr(client_of(self.token(who)), method)(f"/api/v1{path}", body)

    def ask_all(self, method: str, path: str, body: Any = None) -> dict[str, int]:
        """Return the status that each caller gets."""
        return {who: self.ask(who, method, path, body).status_code for who in CALLERS}

    def run_of(self, who: str, state: RunState = RunState.RUNNING) -> Run:
        return new_run(self.own[who], state)


@pytest.fixture
def office(db: None, settings: Settings) -> Iterator[Office]:
    settings.DAG_ACCESS = "closed"
    settings.WHITENOISE_AUTOREFRESH = True
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.AIRFLOW_URL = f"http://127.0.0.1:{free_port()}"
    settings.AIRFLOW_USERNAME = settings.AIRFLOW_PASSWORD = "admin"
    gateway.pooled_client.cache_clear()
    tasks = [dag_task("extract")]
    yield Office(
        sales=Dag.objects.create(
            dag_id="sales_daily", tags=["sales"], params_schema=SCHEMA, tasks=tasks, import_error=TRACEBACK
        ),
        lobby=Dag.objects.create(dag_id="lobby", params_schema={"type": "object"}, tasks=tasks),
    )
    gateway.breaker(DEFAULT).close()
    gateway.pooled_client.cache_clear()
