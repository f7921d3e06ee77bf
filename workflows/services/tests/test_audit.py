"""Changes of workflows and runs are in the audit trail, in the transaction of the change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rest_framework.test import APIClient

from accounts.models import AuditEntry, User
from workflows.models import Run, Workflow
from workflows.states import RunState
from workflows.tests.stage import new_run

AsUser = Callable[[User], APIClient]
pytestmark = pytest.mark.usefixtures("no_airflow")
API = "/api/v1/workflows"


def actions() -> list[str]:
    return list(AuditEntry.objects.exclude(action__startswith="auth.").order_by("id").values_list("action", flat=True))


def test_the_life_of_a_workflow_is_in_the_trail(nightly: Workflow, ada: User, vera: User, as_user: AsUser) -> None:
    client = as_user(ada)
    made = client.post(API, {"name": "New", "dag_id": "etl", "default_parameters": {"rows": 1}}).json()
    url = f"{API}/{made['id']}"
    client.patch(url, {"visibility": "private"})
    grant = client.post(f"{url}/grants", {"user": "vera", "level": "view"}).json()
    client.delete(f"{url}/grants/{grant['id']}")
    run = client.post(f"{url}/runs", {"note": "first"}).json()
    control = f"{url}/runs/{run['id']}/control"
    client.post(control, {"action": "pause"})
    client.post(control, {"action": "resume"})
    client.post(control, {"action": "stop", "note": "enough"})

    assert actions() == [
        "workflow.created", "workflow.changed", "workflow.granted", "workflow.revoked", "run.triggered", "run.paused",
        "run.resumed", "run.stopped",
    ]  # fmt: skip
    changed = AuditEntry.objects.get(action="workflow.changed")
    assert (changed.before, changed.after) == ({"visibility": "internal"}, {"visibility": "private"})
    stopped = AuditEntry.objects.get(action="run.stopped")
    assert (stopped.actor, stopped.object_id, stopped.after) == ("ada", run["id"], {"note": "enough"})


def test_a_ticket_acts_for_the_user_who_issued_it(nightly: Workflow, ada: User, as_user: AsUser) -> None:
    run = new_run(nightly, RunState.PENDING)
    body = {"run_id": str(run.pk), "actions": ["stop"]}
    ticket = as_user(ada).post("/api/v1/tickets", body).json()["ticket"]
    holder = APIClient()
    holder.post(f"{API}/{nightly.pk}/runs/{run.pk}/control", {"action": "stop"}, HTTP_AUTHORIZATION=f"Ticket {ticket}")

    stopped = AuditEntry.objects.get(action="run.stopped")
    assert (stopped.actor, stopped.via) == ("ada", "ticket")
    assert stopped.credential == f"ticket {ticket.split('_')[1]}"


@pytest.mark.parametrize("action", ["stop", "retry", "pause", "resume"])
def test_a_refused_action_is_not_in_the_trail(nightly: Workflow, ada: User, as_user: AsUser, action: str) -> None:
    fits = {"retry": RunState.RUNNING, "resume": RunState.PENDING}
    run = new_run(nightly, fits.get(action, RunState.SUCCESS))

    answer = as_user(ada).post(f"{API}/{nightly.pk}/runs/{run.pk}/control", {"action": action})

    assert answer.status_code == 409
    assert actions() == []
    assert Run.objects.get() == run
