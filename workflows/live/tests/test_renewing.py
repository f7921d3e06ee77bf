"""Newer credentials on an open stream: it goes on where it is, with nothing missed and nothing repeated."""

from __future__ import annotations

import uuid

import pytest
from pytest_django import Settings

from accounts import tickets
from accounts.authentication import authenticate_token
from accounts.identity import TicketAction
from accounts.models import Ticket, User
from workflows.conftest import token_of
from workflows.live.tests.sockets import Connect, Socket, happen, in_thread
from workflows.models import Run, Workflow
from workflows.tests.stage import new_run

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.asyncio]


@in_thread
def ticket_of(user: User, run: Run, *actions: TicketAction) -> str:
    """Issue a ticket for the run, by default to view it."""
    return tickets.issue_ticket(
        caller=authenticate_token(token_of(user)),
        run_id=run.pk,
        workflow_id=run.workflow_id,
        actions=actions or [TicketAction.VIEW],
        seconds=60,
    ).text


async def next_but_heartbeats(socket: Socket) -> dict[str, object]:
    while (message := await socket.next())["type"] == "heartbeat":
        continue
    return message


async def opened(connect: Connect, ticket: str) -> Socket:
    socket: Socket = await connect(f"?ticket={ticket}")
    assert (await socket.next())["type"] == "connection.ready"
    return socket


async def renewed(socket: Socket, token: str) -> dict[str, object]:
    await socket.say({"type": "auth", "token": token})
    return await next_but_heartbeats(socket)


async def test_a_newer_ticket_carries_the_stream_over_the_end_of_the_older(
    connect: Connect, run: Run, ada: User, settings: Settings
) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    socket = await opened(connect, await ticket_of(ada, run))
    [first] = await happen(run)
    assert (await next_but_heartbeats(socket))["id"] == first

    answer = await renewed(socket, await ticket_of(ada, run))
    oldest = await in_thread(Ticket.objects.order_by("pk").first)()
    await in_thread(tickets.revoke_ticket)(ticket=oldest)
    for _ in range(3):
        while (await socket.next())["type"] != "heartbeat":
            continue
    [second] = await happen(run)

    assert answer["type"] == "authenticated"
    assert isinstance(answer["expires_at"], str)
    assert (await next_but_heartbeats(socket))["id"] == second


async def test_without_a_newer_one_the_stream_ends_with_its_ticket(
    connect: Connect, run: Run, ada: User, settings: Settings
) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    socket = await opened(connect, await ticket_of(ada, run))

    await in_thread(tickets.revoke_ticket)(ticket=await in_thread(Ticket.objects.get)())

    assert await socket.closed() == 4401


@pytest.mark.parametrize("case", ["nonsense", "another run", "another user", "no view", "more than before"])
async def test_credentials_for_something_else_change_nothing(
    connect: Connect, run: Run, ada: User, eve: User, nightly: Workflow, case: str
) -> None:
    socket = await opened(connect, await ticket_of(ada, run))
    other = await in_thread(new_run)(nightly, user=ada)
    token = {
        "nonsense": f"svops_t_{uuid.uuid4().hex}",
        "another run": await ticket_of(ada, other),
        "another user": await ticket_of(eve, run),
        "no view": await ticket_of(ada, run, TicketAction.LOGS),
        "more than before": await in_thread(token_of)(ada),
    }[case]

    answer = await renewed(socket, token)
    [position] = await happen(run)

    assert (answer["type"], str(answer["detail"]).partition(":")[0]) == ("error", "token")
    assert (await next_but_heartbeats(socket))["id"] == position


async def test_a_token_is_renewed_by_a_newer_token(stream: Connect, run: Run, ada: User) -> None:
    socket = await stream(ada)

    answer = await renewed(socket, await in_thread(token_of)(ada))
    [position] = await happen(run)

    assert (answer["type"], (await next_but_heartbeats(socket))["id"]) == ("authenticated", position)
