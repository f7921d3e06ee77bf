from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts import services as accounts
from accounts.models import Role, User
from notifications import delivery, services
from notifications.models import Attempt, Delivery, NotificationConfig
from notifications.tests.receiver import Receiver, running
from workflows.eventlog import events
from workflows.models import Dag, Event, Run, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _local_receivers(settings: Settings) -> None:
    """Allow the network of the receivers, as an operator would: they are on this machine."""
    settings.NOTIFICATION_ALLOWED_NETWORKS = (ipaddress.ip_network("127.0.0.0/8"),)
    settings.NOTIFICATION_EMAIL_DOMAINS = ["example.com"]
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running(Receiver()) as receiver:
        yield receiver


def _user(username: str, role: Role) -> User:
    return User.objects.create_user(username, f"{username}@example.com", "a long password", role=role)


@pytest.fixture
def ada(db: None) -> User:
    return _user("ada", Role.USER)


@pytest.fixture
def bob(db: None) -> User:
    return _user("bob", Role.USER)


@pytest.fixture
def root(db: None) -> User:
    return _user("root", Role.ADMIN)


@pytest.fixture
def as_user() -> Callable[[User], APIClient]:
    def client(user: User) -> APIClient:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {accounts.sign_in(user=user).access_token}")
        return client

    return client


@pytest.fixture
def workflow(ada: User) -> Workflow:
    dag = Dag.objects.create(dag_id="etl", tags=["nightly"])
    return Workflow.objects.create(name="Nightly figures", dag=dag, owner=ada)


MakeConfig = Callable[..., NotificationConfig]


@pytest.fixture
def make_config(ada: User, receiver: Receiver) -> MakeConfig:
    """Make a webhook config of ada for failures; fields change that."""

    def make(**fields: Any) -> NotificationConfig:
        values: dict[str, Any] = {
            "actor": ada,
            "name": "On call",
            "channel": "webhook",
            "target": f"{receiver.url}/hook",
            "notification_types": ["workflow_failed"],
            **fields,
        }
        return services.create_config(**values)

    return make


def start_run(workflow: Workflow, user: User | None = None, **fields: Any) -> Run:
    values = {"dag_id": "etl", "created_at": timezone.now(), "user": user or workflow.owner, **fields}
    run = Run(workflow=workflow, **values)
    run.dag_run_id = run.dag_run_id or f"svops__{run.pk}"
    run.save()
    return run


def fail(run: Run, *tasks: str, duration_s: float | None = 12.0) -> Event:
    data = events.WorkflowFailed(
        airflow=DEFAULT,
        state=RunState.FAILED,
        attempt=1,
        reason="exit 1",
        failed_tasks=list(tasks or ("load",)),
        duration_s=duration_s,
    )
    with transaction.atomic():
        return events.record(data, now=timezone.now(), run=run)


def complete(run: Run, *, duration_s: float | None = 12.0) -> Event:
    data = events.WorkflowCompleted(airflow=DEFAULT, state=RunState.SUCCESS, attempt=1, duration_s=duration_s)
    with transaction.atomic():
        return events.record(data, now=timezone.now(), run=run)


def deliver() -> int:
    return delivery.deliver_due(budget=timedelta(seconds=30))


def make_due(**chosen: Any) -> None:
    """Act as if time had passed: the chosen deliveries are due, and no config is paused."""
    now = timezone.now()
    Delivery.objects.filter(**chosen).update(due_at=now)
    NotificationConfig.objects.update(paused_until=None)


def attempts(**chosen: Any) -> list[tuple[int, str, int | None, str]]:
    rows = Attempt.objects.filter(**chosen).order_by("delivery", "number")
    return list(rows.values_list("number", "outcome", "status_code", "error"))
