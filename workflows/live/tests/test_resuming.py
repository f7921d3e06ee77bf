"""A client that comes back with its cursor gets exactly what it missed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from accounts.models import User
from workflows import services
from workflows.conftest import token_of
from workflows.eventlog import publication
from workflows.live import hub
from workflows.live import stream as live_stream
from workflows.live.tests.sockets import (
    Connect,
    happen,
    hub_is_at,
    in_thread,
    publish_silently,
)
from workflows.models import Run, Workflow
from workflows.states import RunState
from workflows.tests.stage import new_run

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("by", ["url", "message"])
async def test_a_client_that_resumes_gets_every_missed_event_once_and_then_the_live_ones(
    stream: Connect, ada: User, run: Run, by: str
) -> None:
    await happen(*[run] * 5)
    socket = await stream(ada, "?after=2" if by == "url" else "")
    if by == "message":
        assert await socket.ask({"type": "resume", "after": 2}) == {"type": "resuming", "from": 2}

    replayed = await socket.until("recovered")
    await happen(run)

    assert [message["id"] for message in replayed[:-1]] == [3, 4, 5]
    assert replayed[-1] == {"type": "recovered", "recovered": True, "from": 2, "to": 5}
    assert await socket.delivered() == [6]


async def test_a_resume_on_an_open_stream_replays_exactly_the_log_after_the_cursor(
    stream: Connect, ada: User, run: Run
) -> None:
    socket = await stream(ada)
    await happen(*[run] * 5)
    assert await socket.delivered() == [1, 2, 3, 4, 5]

    await socket.say({"type": "resume", "after": 1})
    for _ in range(5):
        await happen(run)
    live = await socket.until("resuming")
    replayed = await socket.until("recovered")
    await happen(run)

    assert {message.get("id", 6) for message in live} <= set(range(6, 11))
    ids = [message["id"] for message in replayed[:-1]] + await socket.delivered()
    assert ids == list(range(2, 12))


async def test_a_refused_resume_does_not_change_an_open_stream(stream: Connect, ada: User, run: Run) -> None:
    socket = await stream(ada)
    await happen(run)
    assert await socket.delivered() == [1]

    await socket.say({"type": "resume", "after": 7})
    for _ in range(5):
        await happen(run)
    await hub_is_at(6)
    await socket.say({"type": "ping"})
    messages = await socket.until("pong")

    assert [message["id"] for message in messages if "id" in message] == [2, 3, 4, 5, 6]
    refusals = [message for message in messages if message["type"] in {"recovered", "resuming"}]
    assert [(refusal["recovered"], refusal["from"]) for refusal in refusals] == [(False, 7)]


async def test_a_stream_whose_cursor_is_refused_misses_nothing_after_its_greeting(
    connect: Connect, ada: User, run: Run
) -> None:
    token = await in_thread(token_of)(ada)
    socket, _ = await asyncio.gather(connect("?after=7", authorization=f"Bearer {token}"), happen(*[run] * 5))
    greeting, refusal = await socket.next(), await socket.next()
    await happen(run)

    assert (refusal["type"], refusal["recovered"]) == ("recovered", False)
    assert await socket.delivered() == list(range(greeting["cursor"] + 1, await in_thread(publication.head)() + 1))


async def test_a_long_replay_is_complete_while_more_events_happen(stream: Connect, ada: User, run: Run) -> None:
    await happen(*[run] * (publication.BATCH + 20))
    socket = await stream(ada, "?after=0")

    for _ in range(5):
        await happen(run)

    replayed = await socket.until("recovered")
    ids = [message["id"] for message in replayed[:-1]] + await socket.delivered()
    assert ids == list(range(1, publication.BATCH + 26))


async def test_a_replay_of_one_run_is_exact_and_reads_nothing_of_the_others(
    stream: Connect, ada: User, run: Run, nightly: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await in_thread(new_run)(nightly)
    await happen(run, *[other] * (publication.BATCH + 20), run)
    pages: list[int] = []

    async def reading(after: int, **narrow: Any) -> list[publication.Published]:
        page: list[publication.Published] = await in_thread(publication.read_after)(after, **narrow)
        pages.append(len(page))
        return page

    monkeypatch.setattr(live_stream, "_read_after", reading)
    socket = await stream(ada)
    await socket.ask({"type": "subscribe", "run_id": str(run.pk)})

    await socket.say({"type": "resume", "after": 0})
    replayed = await socket.until("recovered")
    await happen(other, run)

    last = publication.BATCH + 22
    assert [message["id"] for message in replayed[1:-1]] == [1, last]
    assert replayed[-1]["to"] == last
    assert sum(pages) == 2
    assert await socket.delivered() == [last + 2]


async def test_a_replay_shows_only_what_the_caller_may_see(
    stream: Connect, eve: User, nightly: Workflow, secret: Workflow
) -> None:
    make = in_thread(new_run)
    await happen(await make(nightly), await make(secret), None)

    socket = await stream(eve, "?after=0")

    assert [message.get("id") for message in await socket.until("recovered")] == [1, 3, None]


async def test_the_events_of_a_deleted_workflow_are_replayed_only_to_its_owner(
    connect: Connect, stream: Connect, ada: User, eve: User, nightly: Workflow, run: Run
) -> None:
    await happen(run, None)
    await in_thread(Run.objects.filter(pk=run.pk).update)(state=RunState.SUCCESS)
    await in_thread(services.delete_workflow)(workflow=nightly, actor=ada)

    owners, of_workflow = await stream(ada, "?after=0"), await stream(ada, f"/workflow/{nightly.pk}?after=0")
    strangers = await stream(eve, "?after=0")
    closed = await connect(f"/workflow/{nightly.pk}", authorization=f"Bearer {await in_thread(token_of)(eve)}")

    assert [message.get("id") for message in await owners.until("recovered")] == [1, 2, None]
    assert [message.get("id") for message in await of_workflow.until("recovered")] == [1, None]
    assert [message.get("id") for message in await strangers.until("recovered")] == [2, None]
    assert await closed.closed() == 4404


async def test_a_cursor_beyond_the_end_of_the_log_is_refused_and_the_stream_is_live(
    stream: Connect, ada: User, run: Run
) -> None:
    socket = await stream(ada, "?after=7")

    refusal = await socket.next()
    assert (refusal["type"], refusal["recovered"], refusal["from"]) == ("recovered", False, 7)
    assert refusal["reason"] == "the cursor is beyond the end of the log"
    await happen(run)
    assert await socket.delivered() == [1]


async def test_an_invalid_cursor_is_answered_with_an_error_and_the_stream_is_live(
    stream: Connect, ada: User, run: Run
) -> None:
    socket = await stream(ada, "?after=yesterday")

    assert await socket.next() == {
        "type": "error",
        "code": "bad_message",
        "detail": "after: expected a cursor, a whole number of 0 or more.",
    }
    await happen(run)
    assert await socket.delivered() == [1]


async def test_a_client_that_is_ahead_of_this_process_gets_nothing_twice(
    stream: Connect, ada: User, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "QUIET", 0.5)
    await stream(ada)
    await hub_is_at(0)
    await publish_silently(run, 3)

    socket = await stream(ada, "?after=2")
    messages = await socket.until("recovered")
    await happen(run)

    ids = [message["id"] for message in messages if "id" in message] + await socket.delivered()
    assert ids == [3, 4]


async def test_a_replay_ends_when_the_end_of_the_log_has_been_deleted(
    stream: Connect, ada: User, nightly: Workflow, run: Run
) -> None:
    other = await in_thread(new_run)(nightly)
    first = await stream(ada)
    await happen(run, other, other)
    assert await first.delivered() == [1, 2, 3]
    await in_thread(other.delete)()

    socket = await stream(ada, "?after=0")
    messages = await socket.until("recovered")
    await happen(run)

    assert [message.get("id") for message in messages] == [1, None]
    assert await socket.delivered() == [4]
