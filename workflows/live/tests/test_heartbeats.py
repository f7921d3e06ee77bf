"""At each heartbeat the rights are checked again, and a stream that its reader may no longer read ends."""

from __future__ import annotations

import pytest
from django.test import Client as Browser
from pytest_django import Settings

from accounts import services as accounts
from accounts.models import Role, User
from workflows import services
from workflows.conftest import token_of
from workflows.live.tests.sockets import (
    Connect,
    cookie_of,
    happen,
    hub_is_at,
    in_thread,
)
from workflows.models import Level, Run, Visibility, Workflow
from workflows.tests.stage import NOW, new_run

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_heartbeat_carries_the_position_up_to_which_all_events_were_delivered(
    stream: Connect, ada: User, run: Run, settings: Settings
) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    socket = await stream(ada)
    assert await socket.next() == {"type": "heartbeat", "cursor": 0}

    await happen(run, run)
    await hub_is_at(2)
    messages = await socket.until("heartbeat")
    while messages[-1]["cursor"] != 2:
        messages += await socket.until("heartbeat")

    assert [message["id"] for message in messages if "id" in message] == [1, 2]


async def test_a_user_who_is_deactivated_is_closed_at_the_next_heartbeat(
    stream: Connect, ada: User, settings: Settings
) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    socket = await stream(ada)

    await in_thread(accounts.deactivate)(user=ada)

    assert await socket.closed() == 4401


async def test_a_token_that_was_logged_out_is_closed_at_the_next_heartbeat(
    stream: Connect, ada: User, settings: Settings
) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    socket = await stream(ada)

    await in_thread(ada.sign_ins.update)(ended_at=NOW)

    assert await socket.closed() == 4401


async def test_a_session_that_was_logged_out_is_closed_at_the_next_heartbeat(
    connect: Connect, ada: User, settings: Settings
) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    browser = Browser()
    await in_thread(browser.force_login)(ada)
    cookie = f"sessionid={browser.cookies['sessionid'].value}"
    socket = await connect(cookie=cookie, origin="http://localhost")
    assert (await socket.next())["type"] == "connection.ready"

    await in_thread(browser.logout)()

    assert await socket.closed() == 4401


async def test_a_stream_whose_access_check_fails_ends(
    connect: Connect, ada: User, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    socket = await connect(cookie=await cookie_of(ada), origin="http://localhost")
    assert (await socket.next())["type"] == "connection.ready"

    settings.SESSION_ENGINE = "no.such.engine"

    assert await socket.closed() == 1011
    assert "a stream ends on an error" in caplog.messages


async def test_a_former_admin_is_closed_on_the_stream_of_another_user(
    stream: Connect, ada: User, root: User, settings: Settings
) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    second = await in_thread(User.objects.create_user)("boss", "boss@example.com", role=Role.ADMIN)
    socket = await stream(second, f"/user/{ada.pk}")

    await in_thread(accounts.change_role)(user=second, role=Role.USER)

    assert await socket.closed() == 4403


async def test_a_former_admin_no_longer_sees_private_workflows(
    stream: Connect, root: User, secret: Workflow, settings: Settings
) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    second = await in_thread(User.objects.create_user)("boss", "boss@example.com", role=Role.ADMIN)
    hidden = await in_thread(new_run)(secret)
    socket = await stream(second)
    await in_thread(accounts.change_role)(user=second, role=Role.USER)
    await socket.until("heartbeat")
    await socket.until("heartbeat")

    await happen(hidden)

    assert await socket.delivered() == []


async def test_the_stream_of_a_workflow_that_became_private_ends_for_strangers(
    stream: Connect, ada: User, eve: User, nightly: Workflow, settings: Settings
) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    socket = await stream(eve, f"/workflow/{nightly.pk}")

    await in_thread(services.update_workflow)(workflow=nightly, actor=ada, visibility=Visibility.PRIVATE)

    assert await socket.closed() == 4403


@pytest.mark.parametrize("path", ["/workflow/{workflow}", "/user/{user}/workflow/{workflow}"])
async def test_the_stream_of_a_workflow_ends_when_the_grant_is_revoked(
    stream: Connect, connect: Connect, eve: User, root: User, secret: Workflow, settings: Settings, path: str
) -> None:
    settings.STREAM_HEARTBEAT = 0.2
    given = await in_thread(services.grant)(workflow=secret, actor=root, level=Level.VIEW, user=eve)
    path = path.format(workflow=secret.pk, user=eve.pk)
    socket = await stream(eve, path)

    await in_thread(services.revoke)(grant=given.grant, actor=root)

    assert await socket.closed() == 4403
    # A new stream gets the answer that a stranger gets.
    again = await connect(path, authorization=f"Bearer {await in_thread(token_of)(eve)}")
    assert await again.closed() == 4404
