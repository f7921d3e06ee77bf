"""The caller's references and the parameters of a DAG: neither replaces the other."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts.models import User
from workflows.airflow.tests.scripted import Reply
from workflows.api.tests.asking import V1, AsUser, refused, runs_of
from workflows.dispatch.tests.steps import dispatch_pending, trigger
from workflows.models import Dag, Run, Workflow
from workflows.tests.stage import SCHEMA, StagedAirflow, conf_of_ours

pytestmark = pytest.mark.django_db(transaction=True)

DATASETS = {"type": "string", "enum": ["raw", "clean"]}
CLASH = {
    "dataset_id": ["The reference dataset_id clashes with parameters.dataset_id: leave out the reference."],
    "parameters.dataset_id": ["This parameter clashes with the reference dataset_id: leave out the reference."],
}
TAKEN = "SVOps uses this name itself: choose another one."


@pytest.fixture
def declaring(nightly: Workflow) -> Workflow:
    """A workflow whose DAG declares a parameter with the name of a reference."""
    Dag.objects.update(params_schema={**SCHEMA, "properties": {**SCHEMA["properties"], "dataset_id": DATASETS}})
    return Workflow.objects.get(pk=nightly.pk)


@pytest.mark.parametrize("where", ["", "/validate"])
@pytest.mark.parametrize("more", [{}, {"parameters": {"dataset_id": "clean"}}], ids=["declared", "given"])
def test_a_reference_with_the_name_of_a_declared_parameter_is_refused(
    as_user: AsUser, airflow: StagedAirflow, ada: User, declaring: Workflow, where: str, more: dict[str, Any]
) -> None:
    client = as_user(ada)
    body = {"dataset_id": "raw", "task_id": 7, **more}

    refused(lambda: client.post(f"{runs_of(declaring)}{where}", body), 400, "invalid", errors=CLASH)

    assert (Run.objects.count(), airflow.requests) == (0, [])


def test_a_reference_with_the_name_of_an_undeclared_parameter_is_refused(
    as_user: AsUser, ada: User, nightly: Workflow
) -> None:
    client = as_user(ada)
    body = {"dataset_id": "raw", "parameters": {"dataset_id": "clean"}}

    refused(lambda: client.post(runs_of(nightly), body), 400, "invalid", errors=CLASH)


def test_a_reference_with_the_name_of_a_default_is_refused(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    Workflow.objects.update(default_parameters={"rows": 1, "dataset_id": "clean"})
    client = as_user(ada)

    refused(lambda: client.post(runs_of(nightly), {"dataset_id": "raw"}), 400, "invalid", errors=CLASH)


def test_a_clash_in_a_batch_refuses_its_item_alone(
    as_user: AsUser, airflow: StagedAirflow, ada: User, declaring: Workflow
) -> None:
    items = [{"dataset_id": "raw"}, {"task_id": 7, "parameters": {"dataset_id": "clean"}}]

    bad, good = as_user(ada).post(f"{runs_of(declaring)}/batch", {"items": items}).json()["results"]

    assert (bad["status"], bad["error"]["errors"], good["status"]) == (400, CLASH, 201)
    [theirs] = airflow.runs.values()
    run = Run.objects.get()
    assert theirs["conf"] == {
        "rows": 10,
        "dataset_id": "clean",
        "task_id": 7,
        "svops": conf_of_ours(run, 7, None),
    }


def test_a_parameter_that_the_dag_declares_after_the_trigger_is_not_replaced(
    airflow: StagedAirflow, nightly: Workflow
) -> None:
    airflow.next_api_calls.append(Reply(503, {"detail": "later"}))
    run = trigger(nightly, caller_dataset_ref="raw")
    assert run.state == "pending"
    Dag.objects.update(params_schema={"properties": {"dataset_id": DATASETS}})

    dispatch_pending()

    [theirs] = airflow.runs.values()
    ours = conf_of_ours(run, None, "raw")
    assert theirs["conf"] == {"rows": 10, "svops": ours}


@pytest.mark.parametrize("where", ["", "/validate"])
def test_no_parameter_may_have_the_name_of_our_own_key(
    as_user: AsUser, ada: User, nightly: Workflow, where: str
) -> None:
    client = as_user(ada)
    body: dict[str, Any] = {"parameters": {"svops": {}}}

    refused(lambda: client.post(f"{runs_of(nightly)}{where}", body), 400, "invalid", errors={
        "parameters.svops": [TAKEN]
    })  # fmt: skip
    with pytest.raises(CommandError, match=TAKEN):
        call_command("run_workflow", "Nightly", "--param", "svops=1", "--user", "ada")
    assert not Run.objects.exists()


def test_no_default_may_have_the_name_of_our_own_key(as_user: AsUser, ada: User, etl: Dag) -> None:
    client = as_user(ada)
    body = {"name": "Mine", "dag_id": "etl", "default_parameters": {"svops": 1}}

    refused(lambda: client.post(f"{V1}/workflows", body), 400, "invalid", errors={
        "default_parameters.svops": [TAKEN]
    })  # fmt: skip


def test_parameters_of_a_dag_that_cannot_be_understood_are_not_validated(
    as_user: AsUser, ada: User, nightly: Workflow
) -> None:
    Dag.objects.update(unusable_reason="Its schema is wrong.")
    client = as_user(ada)

    body = refused(lambda: client.post(f"{runs_of(nightly)}/validate", {}), 409, "workflow_inactive")

    assert body["detail"] == "SVOps cannot use the DAG etl: Its schema is wrong."


def test_a_reference_has_a_second_name_that_is_no_name_of_airflow(
    as_user: AsUser, airflow: StagedAirflow, ada: User, nightly: Workflow
) -> None:
    client = as_user(ada)
    names = {"caller_task_ref": 7, "caller_dataset_ref": "raw"}
    both = names | {"task_id": 7, "dataset_id": "raw"}

    made = client.post(runs_of(nightly), names).json()
    listed = client.get(f"{V1}/runs?caller_task_ref=7&caller_dataset_ref=raw").json()["results"]
    [event] = client.get(f"{V1}/events?run={made['id']}&type=workflow.triggered").json()["results"]

    assert [{name: shown[name] for name in both} for shown in (made, *listed, event["data"])] == [both] * 3
    [theirs] = airflow.runs.values()
    run = Run.objects.get()
    assert theirs["conf"] == {"rows": 10, "task_id": 7, "dataset_id": "raw", "svops": conf_of_ours(run, 7, "raw")}


def test_either_name_makes_the_same_request(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    client, key = as_user(ada), {"Idempotency-Key": "order-7"}

    bodies: list[dict[str, Any]] = [{"task_id": 7}, {"caller_task_ref": 7}, {"task_id": 7, "caller_task_ref": 7}]
    answers = [client.post(runs_of(nightly), body, headers=key).json()["id"] for body in bodies]

    assert len(set(answers)) == Run.objects.count() == 1


def test_two_names_with_different_references_are_refused(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    client = as_user(ada)
    body = {"task_id": 7, "caller_task_ref": "7"}
    expected = {"task_id": ["Differs from caller_task_ref, which is the same reference: leave out one."]}

    refused(lambda: client.post(runs_of(nightly), body), 400, "invalid", errors=expected)

    assert not Run.objects.exists()
