"""A trigger that answers with a ticket for its run."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.models import Ticket, User
from workflows.api.tests.asking import AsUser, path_of, runs_of
from workflows.models import Run, Workflow
from workflows.tests.stage import StagedAirflow

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("airflow")]


def with_ticket(**wish: Any) -> dict[str, Any]:
    return {"parameters": {"rows": 3}, "ticket": {"actions": ["view", "stop"], **wish}}


def test_the_ticket_of_a_trigger_opens_its_run_and_no_other(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    client = as_user(ada)
    other = client.post(runs_of(nightly), {}).json()

    answer = client.post(runs_of(nightly), with_ticket(ttl=120))

    body = answer.json()
    assert (answer.status_code, body["ticket"]["run_id"], body["ticket"]["actions"]) == (
        201,
        body["id"],
        ["stop", "view"],
    )
    holder = APIClient(headers={"Authorization": f"Ticket {body['ticket']['ticket']}"})
    assert holder.get(f"{runs_of(nightly)}/{body['id']}").status_code == 200
    assert holder.get(f"{runs_of(nightly)}/{other['id']}").status_code == 404


def test_a_replay_has_the_same_run_and_another_ticket(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    client = as_user(ada)

    first, again = (
        client.post(runs_of(nightly), with_ticket(ttl=ttl), headers={"Idempotency-Key": "order-1"}) for ttl in (60, 90)
    )

    assert (again.status_code, again["Idempotent-Replayed"]) == (201, "true")
    assert first.json()["id"] == again.json()["id"]
    assert first.json()["ticket"]["ticket"] != again.json()["ticket"]["ticket"]
    assert Ticket.objects.count() == 2


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"ttl": 0}, "ticket.ttl"),
        ({"ttl": 10**6}, "ticket.ttl"),
        ({"actions": []}, "ticket.actions"),
        ({"actions": ["fly"]}, "ticket.actions.0"),
        ({"colour": "red"}, "ticket.colour"),
    ],
)
def test_a_ticket_that_cannot_be_issued_triggers_nothing(
    as_user: AsUser, ada: User, nightly: Workflow, airflow: StagedAirflow, wish: dict[str, Any], field: str
) -> None:
    answer = as_user(ada).post(runs_of(nightly), with_ticket(**wish))

    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])
    assert (Run.objects.count(), Ticket.objects.count(), airflow.writes) == (0, 0, [])


def test_a_batch_gives_no_tickets(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    answer = as_user(ada).post(f"{runs_of(nightly)}/batch", {"items": [with_ticket()]})

    assert answer.json()["results"][0]["status"] == 400
    assert Run.objects.count() == 0


def test_a_trigger_that_waits_has_its_ticket_too(
    as_user: AsUser, ada: User, nightly: Workflow, settings: Settings
) -> None:
    answer = as_user(ada).post(runs_of(nightly), with_ticket(), headers={"Prefer": "wait=5"})

    run = Run.objects.get()
    assert (answer.status_code, answer["Location"]) == (202, path_of(run))
    assert answer.json()["ticket"]["run_id"] == str(run.pk)
