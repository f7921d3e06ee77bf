"""Every model in the admin: its pages open, cost few queries, and are read-only if services change it."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db import connection
from django.db.models import Model
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django_celery_beat import models as beat

from accounts.models import ApiKey, AuditEntry, AuditHead, Identity, Role, SignIn, Ticket, User
from workflows.admin.tests.pages import NOW, everything, new_run, populate
from workflows.dagrules import DagRule
from workflows.models import (
    Airflow,
    DagFileError,
    LogHead,
    Workflow,
)


def one_of_each(workflow: Workflow, root: User) -> None:
    populate(workflow, 1)
    LogHead.objects.get_or_create(pk=1)
    DagFileError.objects.create(filename="broken.py", error="SyntaxError")
    DagRule.objects.create(match="tag", value="public")
    Airflow.default()
    Group.objects.create(name="on call")
    beat.CrontabSchedule.objects.create()
    beat.SolarSchedule.objects.create(event="sunrise", latitude=1, longitude=1)
    beat.ClockedSchedule.objects.create(clocked_time=NOW)
    Identity.objects.create(user=root, issuer="https://id.example.com", subject="1")
    SignIn.objects.create(user=root, created_at=NOW, refreshed_at=NOW, expires_at=NOW)
    ApiKey.objects.create(user=root, name="import", prefix="9f2c41d0", created_at=NOW)
    Ticket.objects.create(user=root, workflow_id=1, run_id=uuid.uuid4(), created_at=NOW, expires_at=NOW)
    AuditHead.objects.get_or_create(pk=1)
    AuditEntry.objects.create(at=NOW, via="command", action="user.created", object_type="accounts.user", object_id="1")


# Apps above this one test their own pages.
REGISTERED = sorted(
    (model for model in admin.site._registry if model._meta.app_label != "notifications"),
    key=lambda model: model._meta.label,
)


def test_every_model_of_ours_is_in_the_admin() -> None:
    ours = {
        "Dag",
        "DagFileError",
        "DagRule",
        "Workflow",
        "Run",
        "TaskInstance",
        "Event",
        "LogHead",
        "AirflowCommand",
        "Airflow",
    }
    assert {model.__name__ for model in REGISTERED if model._meta.app_label == "workflows"} == ours


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model._meta.label)
def test_the_pages_of_every_registered_model_open(
    operator: Client, workflow: Workflow, root: User, model: type[Model]
) -> None:
    one_of_each(workflow, root)
    base = f"/admin/{model._meta.app_label}/{model._meta.model_name}"
    row = model._default_manager.first()
    assert row is not None, "nothing to open: give one_of_each one of these"
    pages = admin.site._registry[model]

    assert operator.get(f"{base}/?q=1").status_code == 200
    assert operator.get(f"{base}/{row.pk}/change/").status_code == 200
    may_add = pages.has_add_permission(_request(root))
    assert operator.get(f"{base}/add/").status_code == (200 if may_add else 403)


def _request(user: User) -> Any:
    request = RequestFactory().get("/")
    request.user = user
    return request


READ_ONLY = ["dag", "dagfileerror", "run", "taskinstance", "event", "loghead", "airflowcommand"]


@pytest.mark.parametrize("name", READ_ONLY)
def test_rows_that_services_change_are_read_only(operator: Client, workflow: Workflow, root: User, name: str) -> None:
    one_of_each(workflow, root)
    model = next(model for model in REGISTERED if model._meta.model_name == name)
    row = model._default_manager.get(pk=model._default_manager.values_list("pk", flat=True)[0])
    before = everything()

    for page in ["add/", f"{row.pk}/change/", f"{row.pk}/delete/"]:
        answer = operator.post(f"/admin/workflows/{name}/{page}", {"post": "yes", "state": "success"})
        assert answer.status_code == 403, page

    assert everything() == before
    assert "delete_selected" not in operator.get(f"/admin/workflows/{name}/").content.decode()


@pytest.mark.parametrize("name", ["dag", "workflow", "run", "taskinstance", "event", "airflowcommand"])
def test_a_list_of_30_costs_as_many_queries_as_a_list_of_1(operator: Client, workflow: Workflow, name: str) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert operator.get(f"/admin/workflows/{name}/").status_code == 200
        return len(captured)

    Airflow.default()
    populate(workflow, 1)
    of_one = queries()
    populate(workflow, 29)

    assert queries() == of_one
    assert len(operator.get(f"/admin/workflows/{name}/").context["cl"].result_list) >= 30


@pytest.mark.parametrize("role", [Role.VIEWER, Role.USER])
def test_only_admins_can_open_the_admin(workflow: Workflow, role: Role) -> None:
    run, client = new_run(workflow), Client()
    client.force_login(User.objects.create_user("x", role=role))
    before = everything()

    assert client.get("/admin/workflows/run/").status_code == 302
    assert client.post(f"/admin/workflows/run/{run.pk}/act/stop/").status_code == 302
    assert client.post("/admin/workflows/dag/sync/").status_code == 302
    assert everything() == before
