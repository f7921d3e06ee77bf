"""API keys for certain workflows, and tickets for one run: over REST and on the streams."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import Client as Browser
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts import services as accounts
from accounts.authentication import authenticate_token
from accounts.identity import Scope
from accounts.models import ApiKey, Role, Ticket, User
from workflows import services
from workflows.conftest import bearer
from workflows.live.tests.sockets import Socket, happen, in_thread
from workflows.models import Grant, Level, Run, Workflow
from workflows.states import RunState
from workflows.tests.stage import new_run

AsUser = Callable[[User], APIClient]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_airflow")]
API = "/api/v1"


@pytest.fixture
def mine(secret: Workflow) -> Run:
    return new_run(secret, RunState.PENDING)


@pytest.fixture
def other(nightly: Workflow) -> Run:
    return new_run(nightly, RunState.PENDING)


@pytest.fixture
def by_root(root: User, as_user: AsUser) -> APIClient:
    return as_user(root)


def key_of(client: APIClient, *workflows: Workflow, scopes: Iterable[str]) -> str:
    body = {"name": "test", "scopes": list(scopes), "workflow_ids": [workflow.pk for workflow in workflows] or None}
    answer = client.post(f"{API}/api-keys", body)
    assert answer.status_code == 201, answer.json()
    return str(answer.json()["key"])


def test_a_key_can_only_name_workflows_that_its_owner_sees(
    ada: User, eve: User, as_user: AsUser, secret: Workflow, nightly: Workflow
) -> None:
    body = {"name": "test", "scopes": ["workflow:read"], "workflow_ids": [nightly.pk, secret.pk, 10**15]}

    answers = [as_user(user).post(f"{API}/api-keys", body) for user in (eve, ada)]

    gone = [f"{secret.pk}, {10**15}", f"{10**15}"]
    for answer, missing in zip(answers, gone, strict=True):
        message = f"There is no workflow {missing}, or you cannot see it."
        assert (answer.status_code, answer.json()["errors"]) == (400, {"workflow_ids": [message]})
    assert ApiKey.objects.count() == 0


def ticket_of(client: APIClient, run: Run, *actions: str, ttl: int = 60) -> str:
    answer = client.post(f"{API}/tickets", {"run_id": str(run.pk), "actions": actions, "ttl": ttl})
    assert answer.status_code == 201, answer.json()
    return str(answer.json()["ticket"])


def holding(ticket: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Ticket {ticket}")
    return client


def page(run: Run, more: str = "") -> str:
    return f"{API}/workflows/{run.workflow_id}/runs/{run.pk}{more}"


BOUNDED = ["workflow:read", "workflow:write", "run:trigger", "run:control"]


def test_a_key_for_one_workflow_sees_no_other(mine: Run, other: Run, as_user: AsUser) -> None:
    client = bearer(key_of(as_user(mine.workflow.owner), mine.workflow, scopes=BOUNDED))

    assert [w["id"] for w in client.get(f"{API}/workflows").json()["results"]] == [mine.workflow_id]
    assert [r["id"] for r in client.get(f"{API}/runs").json()["results"]] == [str(mine.pk)]
    assert client.get(page(mine)).status_code == 200
    assert client.get(page(other)).status_code == 404
    assert client.post(f"{API}/workflows/{other.workflow_id}/runs", {"parameters": {"rows": 1}}).status_code == 404
    assert client.post(page(other, "/control"), {"action": "stop"}).status_code == 404
    assert client.patch(f"{API}/workflows/{other.workflow_id}", {"name": "Taken"}).status_code == 404
    assert client.post(f"{API}/workflows", {"name": "New", "dag_id": "etl"}).status_code == 403
    other.refresh_from_db()
    assert other.state == RunState.PENDING
    assert (Workflow.objects.count(), Run.objects.count()) == (2, 2)


@pytest.mark.parametrize("path", ["dags", "users", "notifications/configs", "notifications/deliveries"])
def test_a_bounded_key_gets_nothing_outside_its_workflows(mine: Run, root: User, as_user: AsUser, path: str) -> None:
    client = bearer(key_of(as_user(root), mine.workflow, scopes=BOUNDED))

    assert client.get(f"{API}/{path}").status_code == 403


def test_an_admins_key_for_one_workflow_shows_only_its_events(
    mine: Run, other: Run, root: User, as_user: AsUser
) -> None:
    key = key_of(as_user(root), mine.workflow, scopes=BOUNDED)
    async_to_sync(happen)(mine, other, None)

    events = bearer(key).get(f"{API}/events").json()["results"]

    assert [event["run_id"] for event in events] == [str(mine.pk)]


async def heard(path: str, runs: list[Run | None], **headers: str) -> list[Any]:
    """Return the runs of the events that a stream delivers while these happen."""
    socket = Socket(path, **headers)
    await socket.open()
    ready = await socket.next()
    if ready["type"] != "connection.ready":
        return [ready]
    await happen(*runs)
    got: list[Any] = []
    # The stream shows the last of the runs.
    while not got or got[-1] != str(getattr(runs[-1], "pk", None)):
        got.append((await socket.next()).get("run_id"))
    return got


async def test_a_stream_of_a_key_delivers_only_its_workflows(mine: Run, other: Run, by_root: APIClient) -> None:
    key = await in_thread(key_of)(by_root, mine.workflow, scopes=BOUNDED)

    got = await heard("", [other, None, mine], protocols=f"svops.v1 bearer.{key}")

    assert got == [str(mine.pk)]


async def test_a_stream_of_a_ticket_delivers_only_its_run(mine: Run, by_root: APIClient) -> None:
    sibling = await in_thread(new_run)(mine.workflow)
    ticket = await in_thread(ticket_of)(by_root, mine, "view")

    assert await heard(f"?ticket={ticket}", [sibling, None, mine]) == [str(mine.pk)]


async def test_a_ticket_opens_no_stream_of_another_workflow_and_subscribes_to_no_other_run(
    mine: Run, other: Run, by_root: APIClient
) -> None:
    ticket = await in_thread(ticket_of)(by_root, mine, "view")

    assert await close_code(f"/workflow/{other.workflow_id}?ticket={ticket}") == 4404
    socket = Socket(f"?ticket={ticket}")
    await socket.open()
    await socket.next()
    await socket.say({"type": "subscribe", "run_id": str(other.pk)})
    assert (await socket.next())["code"] == "bad_message"
    await socket.say({"type": "subscribe", "types": ["workflow.started"]})
    assert (await socket.next())["type"] == "subscribed"
    await happen(other, mine)
    assert (await socket.next())["run_id"] == str(mine.pk)


async def close_code(path: str) -> int:
    socket = Socket(path)
    await socket.open()
    return int((await socket._wire.receive_output(timeout=20))["code"])


async def test_a_ticket_that_does_not_name_view_opens_no_stream(mine: Run, by_root: APIClient) -> None:
    ticket = await in_thread(ticket_of)(by_root, mine, "stop", "logs")

    assert await close_code(f"?ticket={ticket}") == 4403


async def test_only_a_ticket_is_accepted_in_the_url(mine: Run, root: User) -> None:
    token = (await in_thread(accounts.sign_in)(user=root)).access_token

    assert await close_code(f"?ticket={token}") == 4401


async def test_a_revoked_ticket_ends_its_stream_with_the_next_heartbeat(
    mine: Run, by_root: APIClient, settings: Settings
) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    ticket = await in_thread(ticket_of)(by_root, mine, "view")
    socket = Socket(f"?ticket={ticket}")
    await socket.open()
    await in_thread(lambda: Ticket.objects.update(revoked_at=timezone.now()))()

    message: dict[str, Any] = {"type": ""}
    while message["type"] != "websocket.close":
        message = await socket._wire.receive_output(timeout=20)
    assert message["code"] == 4401


REST: dict[str, list[tuple[Any, ...]]] = {
    "view": [("get", ""), ("get", "/tasks"), ("get", "/events"), ("get", "/explain")],
    "stop": [("post", "/control", {"action": "stop"})],
    "retry": [("post", "/control", {"action": "retry"})],
    "none": [
        ("post", "/control", {"action": "pause"}),
        ("post", "/control", {"action": "resume"}),
    ],
}


@pytest.mark.parametrize("named", ["view", "stop", "retry", "logs"])
def test_a_ticket_allows_only_the_actions_it_names(mine: Run, as_user: AsUser, named: str) -> None:
    client = holding(ticket_of(as_user(mine.workflow.owner), mine, named))

    for action, calls in REST.items():
        for method, more, *body in calls:
            status = getattr(client, method)(page(mine, more), *body).status_code
            if action != named:
                assert status == 403, (action, more)
            else:
                assert status == (409 if action == "retry" else 200), (action, more)


def test_a_ticket_is_only_for_its_run(mine: Run, other: Run, as_user: AsUser) -> None:
    sibling = new_run(mine.workflow)
    client = holding(ticket_of(as_user(mine.workflow.owner), mine, "view", "stop"))

    assert [client.get(page(run)).status_code for run in (mine, sibling, other)] == [200, 404, 404]
    assert client.post(page(sibling, "/control"), {"action": "stop"}).status_code == 404
    for path in (
        "workflows",
        "runs",
        "events",
        "dags",
        "users",
        "tickets",
        "api-keys",
        "auth/me",
        "notifications/types",
    ):
        assert client.get(f"{API}/{path}").status_code == 403, path
    assert client.post(f"{API}/workflows/{mine.workflow_id}/runs", {}).status_code == 403
    assert client.post(f"{API}/tickets", {"run_id": str(mine.pk), "actions": ["view"]}).status_code == 403


def test_a_ticket_never_allows_more_than_its_user_may_do_now(secret: Workflow, eve: User, as_user: AsUser) -> None:
    run = new_run(secret, RunState.PENDING)
    services.grant(workflow=secret, actor=secret.owner, level=Level.RUN, user=eve)
    client = holding(ticket_of(as_user(eve), run, "view", "stop"))

    Grant.objects.update(level=Level.VIEW)
    assert [client.get(page(run)).status_code, client.post(page(run, "/control"), {"action": "stop"}).status_code] == [
        200,
        403,
    ]
    Grant.objects.all().delete()
    assert client.get(page(run)).status_code == 404
    accounts.deactivate(user=eve)
    assert client.get(page(run)).status_code == 401


def test_a_user_who_may_not_stop_cannot_issue_a_ticket_to_stop(
    secret: Workflow, eve: User, vera: User, as_user: AsUser
) -> None:
    run = new_run(secret)
    for user in (eve, vera):
        services.grant(workflow=secret, actor=secret.owner, level=Level.VIEW, user=user)
    body = {"run_id": str(run.pk), "actions": ["view", "stop"]}

    assert as_user(eve).post(f"{API}/tickets", body).status_code == 403
    assert as_user(vera).post(f"{API}/tickets", body).status_code == 403
    assert not Ticket.objects.exists()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"ttl": 901}, "ttl"),
        ({"ttl": 10**30}, "ttl"),
        ({"ttl": 0}, "ttl"),
        ({"actions": []}, "actions"),
        ({"actions": ["pause"]}, "actions.0"),
        ({"run_id": "0b5e7a52-6f0e-4c53-9d0a-6a7f7a7d2f11"}, "run_id"),
    ],
)
def test_a_wrong_field_of_a_ticket_is_named(mine: Run, as_user: AsUser, change: dict[str, Any], field: str) -> None:
    body = {"run_id": str(mine.pk), "actions": ["view"], "ttl": 60} | change
    answer = as_user(mine.workflow.owner).post(f"{API}/tickets", body)

    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])
    assert not Ticket.objects.exists()


def test_an_invisible_run_gets_no_ticket(mine: Run, eve: User, as_user: AsUser) -> None:
    answer = as_user(eve).post(f"{API}/tickets", {"run_id": str(mine.pk), "actions": ["view"]})

    assert answer.json()["errors"] == {"run_id": ["There is no such run, or you cannot see it."]}


def test_a_ticket_expires_and_can_be_revoked(mine: Run, as_user: AsUser) -> None:
    ada = as_user(mine.workflow.owner)
    first, second = ticket_of(ada, mine, "view"), ticket_of(ada, mine, "view")
    newest, oldest = ada.get(f"{API}/tickets").json()["results"]

    assert ada.delete(f"{API}/tickets/{newest['id']}").status_code == 204
    assert [holding(t).get(page(mine)).status_code for t in (first, second)] == [200, 401]
    Ticket.objects.filter(pk=oldest["id"]).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert holding(first).get(page(mine)).status_code == 401
    assert ada.get(f"{API}/tickets").json()["results"] == []


def test_a_ticket_ends_with_the_key_it_was_issued_with(mine: Run, as_user: AsUser) -> None:
    key = key_of(as_user(mine.workflow.owner), mine.workflow, scopes=["workflow:read", "run:control"])
    ticket = ticket_of(bearer(key), mine, "view", "stop")
    assert holding(ticket).get(page(mine)).status_code == 200

    ApiKey.objects.update(revoked_at=timezone.now())

    assert holding(ticket).get(page(mine)).status_code == 401


def test_a_ticket_opens_server_sent_events_of_only_its_run(mine: Run, other: Run, as_user: AsUser) -> None:
    ticket = ticket_of(as_user(mine.workflow.owner), mine, "view")

    assert Browser().get(f"{API}/events/stream?ticket={ticket}&run={other.pk}").status_code == 404
    assert Browser().get(f"{API}/events/stream?ticket={ticket}&workflow={other.workflow_id}").status_code == 404
    assert Browser().get(f"{API}/events/stream?ticket={ticket}").status_code == 200
    assert Browser().get(f"{API}/events/stream?ticket={ticket[:-1]}").status_code == 401


def test_no_ticket_is_stored(mine: Run, as_user: AsUser) -> None:
    ticket = ticket_of(as_user(mine.workflow.owner), mine, "view")

    assert ticket.rsplit("_", 1)[-1] not in str(Ticket.objects.values().get())
    assert authenticate_token(ticket).scopes == {Scope.WORKFLOW_READ}
    assert Role(authenticate_token(ticket).user.role) == Role.USER
