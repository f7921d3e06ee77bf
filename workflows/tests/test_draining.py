"""A drained Airflow takes no new runs, those that it has go on, and SVOps tells when it is empty."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from workflows import services
from workflows.dispatch import dispatcher
from workflows.lifecycle import draining, moves
from workflows.models import Airflow, Dag, Event, Run, TriggerType, Workflow
from workflows.naming import DEFAULT
from workflows.services.errors import WorkflowInactiveError
from workflows.states import OPEN, RunState
from workflows.tests.stage import StagedAirflow, new_run
from workflows.watch import poll

pytestmark = pytest.mark.django_db(transaction=True)

BY_PASSWORD = {"url": "https://airflow.example.com", "username": "svops", "password": "s3cret"}


@pytest.fixture
def prod(root: User) -> Airflow:
    return services.create_airflow(actor=root, name="prod", options=BY_PASSWORD)


@pytest.fixture
def there(prod: Airflow, ada: User) -> Workflow:
    """A workflow over a DAG of the same dag_id in another Airflow."""
    dag = Dag.objects.create(airflow=prod, dag_id="etl")
    return Workflow.objects.create(name="There", dag=dag, owner=ada)


def drain(name: str, root: User, *, drained: bool = True) -> None:
    services.drain_airflow(actor=root, airflow=Airflow.named(name), drained=drained)


def later(seconds: float = 60) -> datetime:
    return timezone.now() + timedelta(seconds=seconds)


def emptied() -> list[str]:
    found = Event.objects.filter(type="system.airflow_emptied").order_by("id")
    return [event.data["airflow"] for event in found]


def test_a_drained_airflow_refuses_triggers_and_retries_of_its_runs_alone(
    nightly: Workflow, there: Workflow, root: User, ada: User, as_user: Callable[[User], APIClient]
) -> None:
    here, elsewhere = (new_run(each, RunState.FAILED, queued_at=timezone.now()) for each in (nightly, there))
    elsewhere.airflow_id = "prod"
    elsewhere.save()
    drain("prod", root)

    answer = as_user(ada).post(f"/api/v1/workflows/{there.pk}/runs", {}, format="json")

    assert (answer.status_code, answer.json()["code"]) == (409, "workflow_inactive")
    assert answer.json()["detail"] == "The Airflow prod is drained: it takes no new runs."
    with pytest.raises(WorkflowInactiveError, match=r"The Airflow prod is drained: it takes no new runs\."):
        services.retry_run(run=elsewhere, actor=ada)
    assert (moves.why_not_triggerable(nightly), moves.why_not_retriable(here)) == ("", "")
    assert Run.objects.count() == 2


@pytest.mark.parametrize(
    ("drained", "of_dag_here", "of_run_there"),
    [
        (DEFAULT, "Airflow is drained: it takes no new runs.", ""),
        ("prod", "", "The Airflow prod is drained: it takes no new runs."),
    ],
)
def test_a_run_that_its_workflow_has_left_behind_is_retried_where_it_is(
    nightly: Workflow, there: Workflow, root: User, drained: str, of_dag_here: str, of_run_there: str
) -> None:
    left = new_run(there, RunState.FAILED, queued_at=timezone.now())
    Run.objects.filter(pk=left.pk).update(airflow="prod")
    there.dag = nightly.dag
    there.save()
    drain(drained, root)

    left = Run.objects.get(pk=left.pk)

    assert moves.why_not_triggerable(Workflow.objects.get(pk=there.pk)) == of_dag_here
    assert moves.why_not_retriable(left) == of_run_there


def test_an_airflow_that_is_not_active_takes_no_new_runs_either(there: Workflow, prod: Airflow, root: User) -> None:
    services.change_airflow(actor=root, airflow=prod, is_active=False)

    said = moves.why_not_triggerable(Workflow.objects.get(pk=there.pk))

    assert said == "The Airflow prod is not active: nothing is asked of it."


def test_what_was_accepted_before_goes_on(airflow: StagedAirflow, nightly: Workflow, root: User, ada: User) -> None:
    waiting = services.RunRequest(run_at=timezone.now() + timedelta(seconds=1))
    run = services.trigger_run(workflow=nightly, user=ada, trigger_type=TriggerType.API, request=waiting)
    drain(DEFAULT, root)

    assert dispatcher.dispatch_due(DEFAULT, now=later())

    run.refresh_from_db()
    assert run.state == RunState.QUEUED


@pytest.mark.parametrize("state", sorted(OPEN))
def test_an_airflow_with_an_open_run_is_not_empty(nightly: Workflow, root: User, state: RunState) -> None:
    run = new_run(nightly, state)
    drain(DEFAULT, root)

    assert not draining.look(Airflow.default(), now=later())
    assert (Airflow.default().emptied_at, emptied()) == (None, [])

    Run.objects.filter(pk=run.pk).update(state=RunState.SUCCESS)
    now = later()
    assert draining.look(Airflow.default(), now=now)
    assert (Airflow.default().emptied_at, emptied()) == (now, [DEFAULT])


def test_runs_on_another_airflow_do_not_count(nightly: Workflow, prod: Airflow, root: User) -> None:
    new_run(nightly)
    drain("prod", root)

    assert draining.look(Airflow.named("prod"), now=later())
    assert emptied() == ["prod"]


def test_a_tick_tells_once_that_it_is_empty_and_again_after_the_next_drain(airflow: StagedAirflow, root: User) -> None:
    drain(DEFAULT, root)
    for seconds in (1, 40, 42):
        poll.tick(DEFAULT, now=later(seconds))
    assert emptied() == [DEFAULT]

    drain(DEFAULT, root, drained=False)
    row = Airflow.default()
    assert (row.drained_at, row.emptied_at) == (None, None)
    poll.tick(DEFAULT, now=later(44))
    assert emptied() == [DEFAULT]

    drain(DEFAULT, root)
    poll.tick(DEFAULT, now=later(90))
    assert emptied() == [DEFAULT, DEFAULT]


def test_a_look_from_before_it_was_undrained_tells_nothing(root: User) -> None:
    drain(DEFAULT, root)
    before = Airflow.default()
    drain(DEFAULT, root, drained=False)

    assert not draining.look(before, now=later())
    assert (Airflow.default().emptied_at, emptied()) == (None, [])
