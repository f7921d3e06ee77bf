"""What a client may say on its stream, and what it is answered."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django import Settings

from accounts.models import User
from workflows.eventlog import events
from workflows.live.tests.sockets import (
    Connect,
    happen,
    in_thread,
)
from workflows.models import Run, Workflow
from workflows.tests.stage import new_run

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_ping_is_answered(stream: Connect, ada: User) -> None:
    socket = await stream(ada)

    assert await socket.ask({"type": "ping"}) == {"type": "pong"}


async def test_subscriptions_narrow_a_stream_and_add_up(
    stream: Connect, ada: User, nightly: Workflow, secret: Workflow
) -> None:
    make = in_thread(new_run)
    first, second, third = await make(nightly), await make(nightly), await make(secret)
    socket = await stream(ada)

    by_run = {"type": "subscribe", "run_id": str(first.pk)}
    assert await socket.ask(by_run) == {"type": "subscribed", "run_id": str(first.pk)}
    await happen(first, second, third, None)
    assert await socket.delivered() == [1]

    by_workflow = {"workflow_id": secret.pk, "types": ["workflow.started"]}
    assert await socket.ask({"type": "subscribe", **by_workflow}) == {"type": "subscribed", **by_workflow}
    await happen(first, second, third, None)
    assert await socket.delivered() == [5, 7]

    assert await socket.ask({**by_run, "type": "unsubscribe"}) == {"type": "unsubscribed", "run_id": str(first.pk)}
    await happen(first, second, third, None)
    assert await socket.delivered() == [11]

    await socket.ask({"type": "unsubscribe", **by_workflow})
    await happen(first, second, third, None)
    assert await socket.delivered() == [13, 14, 15, 16]


async def test_types_alone_narrow_a_stream(stream: Connect, ada: User, run: Run) -> None:
    socket = await stream(ada)

    await socket.ask({"type": "subscribe", "types": ["system.airflow_up"]})
    await happen(run, None)

    assert await socket.delivered() == [2]


async def test_a_subscription_stays_within_the_filter_of_the_url(
    stream: Connect, ada: User, nightly: Workflow, secret: Workflow
) -> None:
    socket = await stream(ada, f"/workflow/{nightly.pk}")

    answer = await socket.ask({"type": "subscribe", "workflow_id": secret.pk})

    assert answer == {
        "type": "error",
        "code": "bad_message",
        "detail": f"workflow_id: this stream shows only workflow {nightly.pk}.",
    }


async def test_subscriptions_are_limited(stream: Connect, ada: User, settings: Settings) -> None:
    settings.STREAM_SUBSCRIPTIONS = 2
    socket = await stream(ada)
    kinds = ["workflow.started", "workflow.failed", "workflow.completed"]

    answers = [await socket.ask({"type": "subscribe", "types": [kind]}) for kind in kinds]

    assert [answer["type"] for answer in answers] == ["subscribed", "subscribed", "error"]
    assert answers[2]["detail"] == "At most 2 subscriptions on one stream."


async def test_the_status_of_a_run_comes_with_the_cursor_after_which_events_continue(
    stream: Connect, ada: User, run: Run
) -> None:
    await in_thread(run.tasks.create)(task_id="extract", state="running", try_number=1)
    await happen(run, run)
    socket = await stream(ada)

    answer = await socket.ask({"type": "get_status", "run_id": str(run.pk)})

    assert (answer["type"], answer["cursor"]) == ("status", 2)
    assert (answer["run"]["id"], answer["run"]["state"]) == (str(run.pk), "queued")
    assert [(task["task_id"], task["state"]) for task in answer["tasks"]] == [("extract", "running")]


WORKFLOW_FIELDS = "Expected one of workflow_id, run_id, types."


TYPES = f"types: expected a list of {', '.join(sorted(events.CATALOGUE))}."


OF_TYPE = 'Expected a JSON object with a "type".'


NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        ("not json", OF_TYPE),
        ("[1]", OF_TYPE),
        ("[" * 16_000, OF_TYPE),
        ({"type": "dance"}, "type: 'dance' is unknown; expected one of auth, get_status, ping, resume, subscribe, "
                            "unsubscribe."),
        ({}, "type: 'None' is unknown; expected one of auth, get_status, ping, resume, subscribe, unsubscribe."),
        ("x" * 16_385, "Expected a text message of at most 16384 characters."),
        ({"type": "subscribe"}, WORKFLOW_FIELDS),
        ({"type": "subscribe", "types": ["no.such"]}, TYPES),
        ({"type": "subscribe", "types": "workflow.started"}, TYPES),
        ({"type": "subscribe", "types": [{}]}, TYPES),
        ({"type": "subscribe", "workflow_id": "1"}, "workflow_id: expected a whole number."),
        ({"type": "subscribe", "workflow_id": True}, "workflow_id: expected a whole number."),
        ({"type": "subscribe", "workflow_id": 2**70},
         f"workflow_id: there is no workflow {2**70}, or you cannot see it."),
        ({"type": "subscribe", "run_id": "x"}, "run_id: expected a UUID."),
        ({"type": "get_status"}, "run_id: expected a UUID."),
        ({"type": "get_status", "run_id": NOBODY}, f"run_id: there is no run {NOBODY}, or you cannot see it."),
        ({"type": "unsubscribe", "types": ["workflow.started"]}, "There is no such subscription on this stream."),
        ({"type": "resume"}, "after: expected a cursor, a whole number of 0 or more."),
        ({"type": "resume", "after": -1}, "after: expected a cursor, a whole number of 0 or more."),
        ({"type": "resume", "after": "1.5"}, "after: expected a cursor, a whole number of 0 or more."),
    ],
)  # fmt: skip
async def test_a_wrong_message_is_answered_with_an_error_and_the_stream_goes_on(
    stream: Connect, ada: User, run: Run, message: Any, detail: str
) -> None:
    socket = await stream(ada)

    assert await socket.ask(message) == {"type": "error", "code": "bad_message", "detail": detail}

    await happen(run)
    assert await socket.delivered() == [1]


async def test_a_binary_message_is_answered(stream: Connect, ada: User) -> None:
    socket = await stream(ada)

    await socket.say_bytes(b"\x00")

    assert (await socket.next())["detail"] == "Expected a text message of at most 16384 characters."


async def test_a_strangers_run_is_unknown_to_subscribe_and_get_status(
    stream: Connect, eve: User, secret: Workflow
) -> None:
    hidden = await in_thread(new_run)(secret)
    socket = await stream(eve)

    for kind in ("subscribe", "get_status"):
        answer = await socket.ask({"type": kind, "run_id": str(hidden.pk)})
        assert answer["detail"] == f"run_id: there is no run {hidden.pk}, or you cannot see it."
