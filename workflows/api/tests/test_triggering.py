"""Triggers over the REST API, and the parameters they check."""

from __future__ import annotations

import json
from typing import Any

import pytest

from accounts.models import User
from workflows.api.tests.asking import AsUser, path_of, refused, runs_of
from workflows.models import Dag, Run, Workflow
from workflows.states import RunState
from workflows.tests.stage import StagedAirflow, conf_of_ours, new_run

pytestmark = pytest.mark.django_db


def test_a_trigger_answers_with_the_run(as_user: AsUser, airflow: StagedAirflow, eve: User, nightly: Workflow) -> None:
    wanted = {"task_id": 7, "dataset_id": "d-1", "parameters": {"mode": "slow"}, "note": "please"}

    answer = as_user(eve).post(runs_of(nightly), wanted)

    run = Run.objects.get()
    assert answer.status_code == 201
    expected = {
        "id": str(run.pk),
        "workflow_id": nightly.pk,
        "workflow_name": "Nightly",
        "dag_id": "etl",
        "dag_run_id": f"svops__{run.pk}",
        "state": "queued",
        "state_reason": "",
        "paused": False,
        "trigger_type": "api",
        "user_id": eve.pk,
        "username": "eve",
        "task_id": 7,
        "dataset_id": "d-1",
        "parameters": {"rows": 10, "mode": "slow"},
        "note": "please",
        "attempt": 1,
        "started_at": None,
        "ended_at": None,
        "duration_s": None,
    }
    assert {name: answer.json()[name] for name in expected} == expected
    assert [theirs["conf"] for theirs in airflow.runs.values()] == [
        {
            "rows": 10,
            "mode": "slow",
            "task_id": 7,
            "dataset_id": "d-1",
            "svops": conf_of_ours(run, 7, "d-1"),
        }
    ]


@pytest.mark.usefixtures("no_airflow")
def test_a_trigger_is_accepted_while_airflow_is_down(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    answer = as_user(ada).post(runs_of(nightly), {})

    assert (answer.status_code, answer.json()["state"], answer.json()["stale"]) == (201, "pending", True)


DAY = "2026-03-01T00:00:00Z"
NO_ZONE = "Must name its time zone, such as 2026-11-28T14:00:00Z."
NO_TIME = (
    "Datetime has wrong format. Use one of these formats instead: YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."
)
LONG = "Expected 1 to 250 characters."
REFERENCE = "Expected an integer or a string."


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({"parameters": {"rows": "ten"}}, {"parameters.rows": ["'ten' is not of type 'integer'"]}),
        ({"parameters": {"rows": None}}, {"parameters.rows": ["null is not of type 'integer'"]}),
        ({"parameters": 5}, {"parameters": ['Expected a dictionary of items but got type "int".']}),
        ({"parameter": {}}, {"parameter": ["Unknown field; expected one of caller_dataset_ref, caller_task_ref, "
                                           "data_interval, dataset_id, logical_date, note, parameters, run_at, "
                                           "task_id, ticket."]}),
        ({"logical_date": "2026-03-01T00:00:00"}, {"logical_date": [NO_ZONE]}),
        ({"logical_date": "2026-03-01"}, {"logical_date": [NO_ZONE]}),
        ({"logical_date": "yesterday"}, {"logical_date": [NO_TIME]}),
        ({"logical_date": 20260301}, {"logical_date": [NO_TIME]}),
        ({"logical_date": DAY, "data_interval": {"start": DAY}}, {"data_interval.end": ["This field is required."]}),
        ({"logical_date": DAY, "data_interval": {"end": DAY}}, {"data_interval.start": ["This field is required."]}),
        ({"logical_date": DAY, "data_interval": {"start": DAY, "end": None}},
         {"data_interval.end": ["This field may not be null."]}),
        ({"logical_date": DAY, "data_interval": {"start": DAY, "end": "2026-03-02T00:00:00"}},
         {"data_interval.end": [NO_ZONE]}),
        ({"logical_date": DAY, "data_interval": {"start": DAY, "end": "2026-03-01T00:59:59+01:00"}},
         {"data_interval.end": ["Must not be before data_interval.start."]}),
        ({"data_interval": {"start": DAY, "end": DAY}}, {"data_interval": ["Only allowed with a logical_date."]}),
        ({"logical_date": DAY, "data_interval": [DAY, DAY]},
         {"data_interval.non_field_errors": ["Invalid data. Expected a dictionary, but got list."]}),
        ({"task_id": 1.5}, {"task_id": [REFERENCE]}),
        ({"task_id": True}, {"task_id": [REFERENCE]}),
        ({"task_id": ""}, {"task_id": [LONG]}),
        ({"dataset_id": "d" * 251}, {"dataset_id": [LONG]}),
        ({"dataset_id": 2**63}, {"dataset_id": ["Expected an integer of at most 64 bits."]}),
        ({"note": "n" * 1001}, {"note": ["Ensure this field has no more than 1000 characters."]}),
    ],
)  # fmt: skip
def test_a_trigger_with_a_wrong_field_is_refused_without_a_call_to_airflow(
    as_user: AsUser,
    airflow: StagedAirflow,
    ada: User,
    nightly: Workflow,
    body: dict[str, Any],
    errors: dict[str, list[str]],
) -> None:
    client = as_user(ada)

    refused(lambda: client.post(runs_of(nightly), body), 400, "invalid", errors=errors)

    assert airflow.requests == []
    assert Run.objects.count() == 0


def test_a_run_has_the_dates_of_its_trigger(
    as_user: AsUser, airflow: StagedAirflow, ada: User, nightly: Workflow
) -> None:
    interval = {"start": "2026-02-01T00:00:00+01:00", "end": "2026-02-28T00:00:00+01:00"}
    items = [{"logical_date": "2026-03-01T01:00:00+01:00", "data_interval": interval}, {"logical_date": None}]

    answer = as_user(ada).post(f"{runs_of(nightly)}/batch", {"items": items}).json()

    [dated, plain] = [result["run"] for result in answer["results"]]
    assert (dated["logical_date"], plain["logical_date"]) == (DAY, None)
    assert dated["data_interval"] == {"start": "2026-01-31T23:00:00Z", "end": "2026-02-27T23:00:00Z"}
    assert plain["data_interval"] is None
    sent = [(theirs["logical_date"], theirs["data_interval_start"]) for theirs in airflow.runs.values()]
    assert sent == [("2026-03-01T00:00:00+00:00", "2026-01-31T23:00:00+00:00"), (None, None)]


def test_dates_belong_to_the_request_of_an_idempotency_key(
    as_user: AsUser, airflow: StagedAirflow, ada: User, nightly: Workflow
) -> None:
    client = as_user(ada)
    dated = {"logical_date": DAY, "data_interval": {"start": DAY, "end": DAY}}

    def post(body: dict[str, Any]) -> tuple[int, bool]:
        answer = client.post(runs_of(nightly), body, HTTP_IDEMPOTENCY_KEY="k")
        return answer.status_code, "Idempotent-Replayed" in answer.headers

    assert post(dated) == (201, False)
    assert post(dated | {"logical_date": "2026-03-01T01:00:00+01:00"}) == (201, True)
    for other in ({}, {"logical_date": DAY}, dated | {"logical_date": "2026-03-01T00:00:00.000001Z"}):
        assert post(other) == (422, False)
    assert Run.objects.count() == len(airflow.runs) == 1


def test_a_missing_parameter_is_named(as_user: AsUser, airflow: StagedAirflow, ada: User, secret: Workflow) -> None:
    client = as_user(ada)
    errors = {"parameters.rows": ["This parameter is required."]}

    refused(lambda: client.post(runs_of(secret), {}), 400, "invalid", errors=errors)

    assert airflow.requests == []


def test_a_private_workflow_of_another_user_is_not_triggered(as_user: AsUser, eve: User, secret: Workflow) -> None:
    client = as_user(eve)

    refused(lambda: client.post(runs_of(secret), {"parameters": {"rows": 1}}), 404, "not_found")


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"is_active": False}, "The workflow is not active: set is_active to true first."),
        ({"is_present": False}, "Airflow does not have the DAG etl any more."),
        ({"unusable_reason": "Its schema is wrong."}, "SVOps cannot use the DAG etl: Its schema is wrong."),
    ],
)
def test_a_workflow_that_cannot_run_is_not_triggered(
    as_user: AsUser, ada: User, nightly: Workflow, change: dict[str, Any], detail: str
) -> None:
    kind: Any = Workflow if "is_active" in change else Dag
    kind.objects.update(**change)
    client = as_user(ada)

    body = refused(lambda: client.post(runs_of(nightly), {}), 409, "workflow_inactive")

    assert body["detail"] == detail


@pytest.mark.parametrize("options", [{}, {"dry_run": True}, {"mode": "all"}])
@pytest.mark.parametrize("change", [{"is_active": False}, {"is_present": False}, {"unusable_reason": "Bad."}])
def test_a_run_of_a_workflow_that_cannot_run_is_not_retried(
    as_user: AsUser,
    airflow: StagedAirflow,
    ada: User,
    nightly: Workflow,
    change: dict[str, bool],
    options: dict[str, Any],
) -> None:
    run = new_run(nightly, RunState.FAILED)
    kind: Any = Workflow if "is_active" in change else Dag
    kind.objects.update(**change)
    client = as_user(ada)

    refused(lambda: client.post(f"{path_of(run)}/control", {"action": "retry", **options}), 409, "workflow_inactive")

    assert airflow.calls == []


def test_parameters_are_validated_without_a_run(
    as_user: AsUser, airflow: StagedAirflow, ada: User, nightly: Workflow
) -> None:
    client = as_user(ada)

    good = client.post(f"{runs_of(nightly)}/validate", {"parameters": {"mode": "slow"}})

    assert (good.status_code, good.json()) == (200, {"parameters": {"rows": 10, "mode": "slow"}})
    errors = {"parameters.rows": ["1001 is greater than the maximum of 1000"]}
    refused(lambda: client.post(f"{runs_of(nightly)}/validate", {"parameters": {"rows": 1001}}), 400, "invalid",
            errors=errors)  # fmt: skip
    assert (Run.objects.count(), airflow.requests) == (0, [])


@pytest.mark.parametrize(
    "body",
    [
        {"note": "n", "run_at": "2999-01-01T00:00:00Z", "task_id": 7, "dataset_id": "raw"},
        {"logical_date": DAY, "data_interval": {"start": DAY, "end": DAY}},
        {"note": None},
        {"run_at": "2000-01-01T00:00:00Z"},
        {"data_interval": {"start": DAY, "end": DAY}},
        {"colour": "red"},
    ],
)
@pytest.mark.usefixtures("no_airflow")
def test_a_request_is_valid_if_a_trigger_takes_it(
    as_user: AsUser, ada: User, nightly: Workflow, body: dict[str, Any]
) -> None:
    """Before: what a trigger takes beside parameters and references was refused as unknown."""
    client = as_user(ada)

    asked = client.post(f"{runs_of(nightly)}/validate", body)
    created = Run.objects.count()
    triggered = client.post(runs_of(nightly), body)

    assert created == 0
    assert (asked.status_code, triggered.status_code) in ((200, 201), (400, 400))
    if asked.status_code == 400:
        assert asked.json()["errors"] == triggered.json()["errors"]


@pytest.mark.parametrize("text", ["a\u0000b", "\ud800"])
@pytest.mark.usefixtures("no_airflow")
def test_text_that_no_database_stores_is_refused(as_user: AsUser, ada: User, nightly: Workflow, text: str) -> None:
    client = as_user(ada)
    bodies = [{"parameters": {"more": [text]}}, {"task_id": text}, {"note": text}]

    for body in bodies:
        raw = json.dumps(body)
        answer = client.post(runs_of(nightly), raw, content_type="application/json")
        assert answer.status_code == 400, answer.content
    assert Run.objects.count() == 0


@pytest.mark.parametrize(
    "raw",
    [
        '{"parameters": {"x": 1e999}}',
        *('{"parameters": {"x": ' + "[" * depth + "]" * depth + "}}" for depth in (99, 5000, 100_000)),
    ],
    ids=["infinite", "deep", "deeper", "deepest"],
)
@pytest.mark.usefixtures("no_airflow")
def test_json_with_values_outside_the_standard_is_refused(
    as_user: AsUser, ada: User, nightly: Workflow, raw: str
) -> None:
    answer = as_user(ada).post(runs_of(nightly), raw, content_type="application/json")

    assert answer.status_code == 400
    assert Run.objects.count() == 0


@pytest.mark.usefixtures("no_airflow")
def test_json_of_a_hundred_levels_is_accepted(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    raw = '{"parameters": {"rows": 1, "x": ' + "[" * 98 + "]" * 98 + "}}"

    assert as_user(ada).post(runs_of(nightly), raw, content_type="application/json").status_code == 201
