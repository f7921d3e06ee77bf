"""An operator, a workflow, and no Airflow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from accounts.models import Role, User
from runner.ports import free_port
from workflows import gateway
from workflows.admin.tests.pages import NOW, SCHEMA
from workflows.models import (
    Dag,
    Workflow,
)


@pytest.fixture(autouse=True)
def _no_airflow(settings: Settings, request: pytest.FixtureRequest) -> Iterator[None]:
    """Nobody listens at the address of Airflow, unless a test asks for the real one."""
    if "airflow_server" not in request.fixturenames:
        settings.AIRFLOW_URL = f"http://127.0.0.1:{free_port()}"
    gateway.pooled_client.cache_clear()
    yield
    gateway.pooled_client.cache_clear()


@pytest.fixture
def root(db: None) -> User:
    return User.objects.create_user("root", "root@example.com", role=Role.ADMIN)


@pytest.fixture
def operator(root: User) -> Client:
    client = Client()
    client.force_login(root)
    return client


@pytest.fixture
def dag(db: None) -> Dag:
    tasks = [
        {"task_id": "extract", "operator": "PythonOperator", "downstream_task_ids": ["load"]},
        {"task_id": "load", "operator": "PythonOperator", "downstream_task_ids": []},
    ]
    return Dag.objects.create(dag_id="nightly_etl", tags=["nightly"], params_schema=SCHEMA, tasks=tasks, synced_at=NOW)


@pytest.fixture
def workflow(dag: Dag, root: User) -> Workflow:
    return Workflow.objects.create(name="Nightly ETL", dag=dag, owner=root)


@pytest.fixture
def form(dag: Dag, root: User) -> dict[str, Any]:
    """The form of a new workflow, filled in."""
    return {
        "name": "Reports",
        "description": "Every morning",
        "dag": dag.pk,
        "owner": root.pk,
        "is_active": "on",
        "visibility": "private",
        "default_parameters": '{"processing_time": 5}',
        "grants-TOTAL_FORMS": "0",
        "grants-INITIAL_FORMS": "0",
    }
