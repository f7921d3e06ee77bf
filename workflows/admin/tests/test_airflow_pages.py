"""Sync, a real Airflow, and the schedules."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from django.contrib import messages
from django.test import Client
from django_celery_beat import models as beat

from workflows.admin.tests.pages import NOW, act, messages_of
from workflows.models import (
    Dag,
    Run,
    Workflow,
)


def test_a_sync_while_airflow_is_down_is_an_error_message(operator: Client, dag: Dag) -> None:
    response = operator.post("/admin/workflows/dag/sync/", follow=True)

    [(level, text)] = messages_of(response)
    assert level == messages.ERROR
    assert text.startswith("The DAGs were not synced. Airflow does not answer: ")
    assert Dag.objects.get().is_present is True


@pytest.mark.airflow
def test_an_operator_syncs_triggers_and_stops_on_a_real_airflow(
    operator: Client, dag: Dag, form: dict[str, Any], airflow_server: object
) -> None:
    [(level, text)] = messages_of(operator.post("/admin/workflows/dag/sync/", follow=True))
    assert level == messages.SUCCESS
    names = "data_processing_pipeline, ml_training_pipeline, simple_workflow_example"
    assert text == f"Airflow has 3 DAGs; changed: {names}; gone: nightly_etl."
    [(_, again)] = messages_of(operator.post("/admin/workflows/dag/sync/", follow=True))
    assert again == "Airflow has 3 DAGs; nothing changed."

    simple = Dag.objects.get(dag_id="simple_workflow_example")
    operator.post("/admin/workflows/workflow/add/", form | {"dag": simple.pk}, follow=True)
    workflow = Workflow.objects.get()
    [(level, text)] = act(operator, "workflow", "trigger", workflow)
    run = Run.objects.get()
    assert (level, text) == (messages.SUCCESS, f"Workflow Reports: triggered, {run} is queued")

    assert act(operator, "run", "stop", run) == [(messages.SUCCESS, f"Run {run}: it is stopping now.")]


def test_an_operator_changes_the_interval_of_a_schedule(operator: Client) -> None:
    task = beat.PeriodicTask.objects.get(name="Sync DAGs")
    beat.PeriodicTasks.objects.update(last_update=NOW)
    page = f"/admin/django_celery_beat/periodictask/{task.pk}/change/"
    slower = beat.IntervalSchedule.objects.create(every=5, period="minutes")
    shown = operator.get(page).context["adminform"].form.initial
    form = {key: value for key, value in shown.items() if value is not None and not isinstance(value, datetime)}

    response = operator.post(page, form | {"interval": slower.pk, "regtask": task.task})

    assert response.status_code == 302, response.context["adminform"].form.errors
    task.refresh_from_db()
    assert (task.task, str(task.schedule)) == ("workflows.tasks.sync_dags", "<freq: 5.00 minutes>")
    assert beat.PeriodicTasks.last_change() > NOW, "beat reads the schedules again when this moves"
