"""What each stream delivers, to whom, and how it leaves a client that is too slow."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from django.db import transaction
from pytest_django import Settings

from accounts.models import User
from svops.asgi import application
from workflows import services
from workflows.conftest import token_of
from workflows.dagrules import DagMatch
from workflows.eventlog import audience, events
from workflows.live import hub
from workflows.live.tests.sockets import (
    PATIENCE,
    Connect,
    Socket,
    happen,
    hub_is_at,
    in_thread,
)
from workflows.models import Dag, Grant, Run, Visibility, Workflow
from workflows.tests.stage import NOW, new_run

pytestmark = pytest.mark.django_db(transaction=True)


async def test_each_stream_delivers_exactly_its_events(
    stream: Connect, nightly: Workflow, secret: Workflow, ada: User, eve: User, root: User, vera: User
) -> None:
    make = in_thread(new_run)
    everything = [
        await make(nightly, user=ada),
        await make(nightly, user=eve),
        await make(secret, user=ada),
        await make(secret, user=root),
        None,
    ]
    expected = {
        (ada, ""): [1, 2, 3, 4, 5],
        (root, ""): [1, 2, 3, 4, 5],
        (eve, ""): [1, 2, 5],
        (vera, ""): [1, 2, 5],
        (ada, f"/user/{ada.pk}"): [1, 3],
        (eve, f"/user/{eve.pk}"): [2],
        (root, f"/user/{ada.pk}"): [1, 3],
        (ada, f"/workflow/{nightly.pk}"): [1, 2],
        (ada, f"/workflow/{secret.pk}"): [3, 4],
        (vera, f"/workflow/{nightly.pk}"): [1, 2],
        (ada, f"/user/{ada.pk}/workflow/{nightly.pk}"): [1],
        (ada, f"/user/{ada.pk}/workflow/{secret.pk}"): [3],
        (eve, f"/user/{eve.pk}/workflow/{nightly.pk}"): [2],
    }
    opened = {key: await stream(*key) for key in expected}

    for run in everything:
        await happen(run)

    assert {key: await socket.delivered() for key, socket in opened.items()} == expected


async def test_an_event_arrives_as_its_envelope(stream: Connect, ada: User, run: Run) -> None:
    socket = await stream(ada)

    await happen(run)

    assert await socket.next() == {
        "id": 1,
        "seq": 1,
        "type": "workflow.started",
        "workflow_id": run.workflow_id,
        "run_id": str(run.pk),
        "task_id": None,
        "user_id": ada.pk,
        "timestamp": "2026-03-01T12:00:00Z",
        "data": {"state": "running", "attempt": 1, "airflow": "default", "started_at": "2026-03-01T12:00:00Z"},
    }


def test_audience_and_queryset_agree(
    nightly: Workflow, secret: Workflow, ada: User, eve: User, root: User, vera: User
) -> None:
    Workflow.objects.create(name="Gone", dag=nightly.dag, owner=ada, deleted_at=NOW)
    granted = Workflow.objects.create(name="Gone too", dag=nightly.dag, owner=root, deleted_at=NOW)
    Grant.objects.create(workflow=granted, user=eve)
    everything = list(Workflow.objects.all())
    audiences = audience.load([workflow.pk for workflow in everything])

    for user in (ada, eve, root, vera):
        included = {pk for pk, a in audiences.items() if a.includes(user_id=user.pk, is_admin=user.is_superuser)}
        assert included == set(Workflow.objects.remembered_by(user).values_list("pk", flat=True)), user


async def test_an_event_about_a_dag_is_delivered_to_those_to_whom_the_dag_is_open(
    stream: Connect, secret: Workflow, etl: Dag, ada: User, eve: User, root: User, vera: User, settings: Settings
) -> None:
    settings.DAG_ACCESS = "closed"
    given = await in_thread(services.open_dags)(actor=root, match=DagMatch.TAG, value="nightly", user=eve)
    await in_thread(Dag.objects.filter(pk=etl.pk).update)(tags=["nightly"])
    readers = {name: await stream(user) for name, user in {"ada": ada, "eve": eve, "root": root, "vera": vera}.items()}

    await _synced(etl)

    assert {name: len(await socket.delivered()) for name, socket in readers.items()} == {
        "ada": 1,  # she has a workflow over it
        "eve": 1,
        "root": 1,
        "vera": 0,
    }
    await in_thread(services.close_dags)(rule=given.rule, actor=root)
    await _synced(etl)
    assert {name: len(await socket.delivered()) for name, socket in readers.items()} == {
        "ada": 1,
        "eve": 0,
        "root": 1,
        "vera": 0,
    }


@in_thread
def _synced(dag: Dag) -> None:
    with transaction.atomic():
        events.record(events.synced(dag, changed=["tags"]), now=NOW, dag=dag)


async def test_a_workflow_made_private_is_no_longer_delivered_to_strangers(
    stream: Connect, ada: User, eve: User, nightly: Workflow, run: Run
) -> None:
    socket = await stream(eve)
    await happen(run)
    assert await socket.delivered() == [1]

    await in_thread(services.update_workflow)(workflow=nightly, actor=ada, visibility=Visibility.PRIVATE)
    await happen(run)

    assert await socket.delivered() == []


async def test_a_workflow_made_private_is_hidden_after_a_heartbeat_even_if_the_wake_up_is_lost(
    stream: Connect, ada: User, eve: User, nightly: Workflow, run: Run, settings: Settings
) -> None:
    settings.STREAM_HEARTBEAT = 0.3
    socket = await stream(eve)
    await happen(run)
    assert await socket.delivered() == [1]
    await in_thread(Workflow.objects.filter(pk=nightly.pk).update)(visibility=Visibility.PRIVATE)
    await socket.until("heartbeat")
    await socket.until("heartbeat")

    await happen(run)

    assert await socket.delivered() == []


async def test_a_client_too_slow_for_its_queue_is_closed_and_resumes_without_loss(
    stream: Connect, ada: User, run: Run, settings: Settings
) -> None:
    settings.STREAM_QUEUE_BYTES = 2_000
    token = await in_thread(token_of)(ada)
    sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    goes_on = asyncio.Event()

    async def send(message: Any) -> None:
        await sent.put(message)
        if message["type"] == "websocket.send" and sent.qsize() > 2:
            await goes_on.wait()

    slow = Socket("", authorization=f"Bearer {token}")
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    received.put_nowait({"type": "websocket.connect"})
    serving = asyncio.create_task(application(dict(slow._wire.scope), received.get, send))
    deadline = time.monotonic() + PATIENCE
    while sent.qsize() < 2:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)

    for n in range(1, 31):
        await happen(run)
        await hub_is_at(n)
    goes_on.set()
    frames = [await asyncio.wait_for(sent.get(), PATIENCE) for _ in range(4)]

    assert [frame["type"] for frame in frames] == [
        "websocket.accept",
        "websocket.send",
        "websocket.send",
        "websocket.close",
    ]
    assert (json.loads(frames[2]["text"])["id"], frames[3]["code"]) == (1, 4408)
    received.put_nowait({"type": "websocket.disconnect", "code": 4408})
    await asyncio.wait_for(serving, PATIENCE)

    again = await stream(ada, "?after=1")
    messages = await again.until("recovered")
    assert [message.get("id") for message in messages] == [*range(2, 31), None]


async def test_events_that_arrive_together_leave_together(connect: Connect, ada: User, run: Run) -> None:
    socket = await connect(authorization=f"Bearer {await in_thread(token_of)(ada)}")
    await socket.next()

    await happen(*[run] * 3)

    frame = json.loads(await socket._wire.receive_from(timeout=PATIENCE))
    assert (frame["type"], [event["id"] for event in frame["events"]]) == ("events", [1, 2, 3])


async def test_a_client_that_leaves_is_forgotten(stream: Connect, ada: User) -> None:
    socket = await stream(ada)
    running = await hub.running_hub()
    assert running._index

    await socket.end()

    assert not running._index
