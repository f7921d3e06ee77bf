"""Helpers: paths of the API, and what a refusal must look like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rest_framework.test import APIClient

from accounts.models import User
from workflows.models import Airflow, AirflowCommand, Dag, Event, Run, TaskInstance, Workflow

V1 = "/api/v1"
AsUser = Callable[[User], APIClient]


def everything() -> list[dict[str, Any]]:
    """Return all rows of the core: a refusal must not change them."""
    models: tuple[Any, ...] = (Dag, Workflow, Run, TaskInstance, Event, AirflowCommand, Airflow)
    return [row for model in models for row in model.objects.order_by("pk").values()]


def refused(call: Callable[[], Any], status: int, code: str, **more: Any) -> dict[str, Any]:
    """Assert that the call is refused and changes nothing; return the body of the error."""
    Airflow.default()
    before = everything()
    answer = call()
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), body
    assert everything() == before
    assert isinstance(body.pop("request_id"), str)
    detail = body.pop("detail")
    assert isinstance(detail, str)
    assert detail
    assert body == {"code": code} | more
    return {"detail": detail, **body}


def runs_of(workflow: Workflow) -> str:
    return f"{V1}/workflows/{workflow.pk}/runs"


def path_of(run: Run) -> str:
    return f"{runs_of(run.workflow)}/{run.pk}"
