"""Who may open which WebSocket stream, and with which credentials."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from django.test import AsyncClient
from pytest_django import Settings

from accounts.models import User
from workflows.conftest import token_of
from workflows.live.tests.sockets import (
    Connect,
    Socket,
    cookie_of,
    in_thread,
)
from workflows.models import Workflow

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_token_in_the_sub_protocol_opens_a_stream(sockets: list[Socket], ada: User) -> None:
    socket = Socket("", protocols=f"svops.v1 bearer.{await in_thread(token_of)(ada)}")
    sockets.append(socket)

    assert await socket.open() == "svops.v1"

    assert await socket.next() == {"type": "connection.ready", "cursor": 0, "heartbeat_s": 20.0, "protocol": 1}


async def test_a_token_in_the_header_opens_a_stream(connect: Connect, ada: User) -> None:
    socket = await connect(authorization=f"Bearer {await in_thread(token_of)(ada)}")

    assert (await socket.next())["type"] == "connection.ready"


async def test_a_token_in_the_first_message_opens_a_stream(connect: Connect, ada: User) -> None:
    socket = await connect()

    answer = await socket.ask({"type": "auth", "token": await in_thread(token_of)(ada)})

    assert answer["type"] == "connection.ready"


async def test_a_session_opens_a_stream_from_our_own_pages(connect: Connect, ada: User) -> None:
    socket = await connect(cookie=await cookie_of(ada), origin="http://localhost")

    assert (await socket.next())["type"] == "connection.ready"


async def test_a_session_opens_a_stream_from_a_page_at_an_ipv6_address(
    connect: Connect, ada: User, settings: Settings
) -> None:
    settings.ALLOWED_HOSTS = ["[::1]"]
    socket = await connect(cookie=await cookie_of(ada), host="[::1]:8000", origin="http://[::1]:8000")

    assert (await socket.next())["type"] == "connection.ready"


@pytest.mark.parametrize(
    "origin",
    [
        {},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://localhost"},
        {"origin": "ftp://localhost"},
    ],
)
async def test_a_session_from_any_other_page_is_refused(connect: Connect, ada: User, origin: dict[str, str]) -> None:
    socket = await connect(cookie=await cookie_of(ada), **origin)

    assert await socket.closed() == 4403


@pytest.mark.parametrize("way", ["header", "protocol", "message"])
async def test_a_wrong_token_is_refused_in_each_place(connect: Connect, ada: User, way: str) -> None:
    headers = {"header": {"authorization": "Bearer wrong"}, "protocol": {"protocols": "svops.v1 bearer.wrong"}}
    socket = await connect(**headers.get(way, {}))
    if way == "message":
        await socket.say({"type": "auth", "token": "wrong"})

    assert await socket.closed() == 4401


async def test_a_first_message_other_than_auth_ends_the_stream(connect: Connect) -> None:
    socket = await connect()
    await socket.say({"type": "ping"})

    assert await socket.closed() == 4401


async def test_a_client_that_does_not_authenticate_in_time_is_closed(connect: Connect, settings: Settings) -> None:
    settings.STREAM_AUTH_TIMEOUT = 0.1
    socket = await connect()

    assert await socket.closed() == 4401


async def test_a_token_in_the_url_is_ignored(connect: Connect, ada: User, settings: Settings) -> None:
    settings.STREAM_AUTH_TIMEOUT = 0.1
    socket = await connect(f"?token={await in_thread(token_of)(ada)}")

    assert await socket.closed() == 4401


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("?colour=red", "Unknown parameter colour; expected one of after, ticket."),
        ("?After=3", "Unknown parameter After; expected one of after, ticket."),
        ("?after=1&after=2", "The parameter after is given 2 times; expected once."),
        ("?after=1&%61fter=2", "The parameter after is given 2 times; expected once."),
        ("?ticket=a&ticket=b", "The parameter ticket is given 2 times; expected once."),
        ("?colour=%FF", "Unknown parameter colour; expected one of after, ticket."),
        ("?password=x&" + "y" * 500, "Unknown parameter password; expected one of after, ticket."),
    ],
)
@pytest.mark.parametrize("signed_in", [True, False])
async def test_a_url_that_says_something_else_ends_the_stream_with_its_reason(
    connect: Connect, ada: User, query: str, detail: str, signed_in: bool
) -> None:
    """Before: unknown parameters were ignored, and of two that are the same the first counted."""
    token = {"authorization": f"Bearer {await in_thread(token_of)(ada)}"} if signed_in else {}
    socket = await connect(query, **token)

    assert await socket.next() == {"type": "error", "code": "invalid", "detail": detail}
    assert await socket.closed() == 4400


@pytest.mark.parametrize("query", ["?after=", "?after=x", "?after=-1"])
async def test_a_cursor_in_the_url_that_is_none_is_named(stream: Connect, ada: User, query: str) -> None:
    """Before: an empty one was ignored."""
    socket = await stream(ada, query)

    assert (await socket.next())["detail"] == "after: expected a cursor, a whole number of 0 or more."


@pytest.fixture
def two_streams_an_hour(settings: Settings) -> Iterator[None]:
    settings.RATE_LIMIT_STREAM = "2/hour"
    server = redis.Redis.from_url(settings.REDIS_URL)
    for key in server.scan_iter("LIMITS:*"):
        server.delete(key)
    yield
    server.close()


async def test_a_user_who_opens_too_many_streams_gets_the_time_to_wait(
    two_streams_an_hour: None, stream: Connect, connect: Connect, ada: User, eve: User
) -> None:
    token = await in_thread(token_of)(ada)
    await stream(ada)
    await stream(ada)

    third = await connect("", authorization=f"Bearer {token}")
    refusal = await third.next()
    code = await third.closed()
    over_http = await AsyncClient().get("/api/v1/events/stream", headers={"authorization": f"Bearer {token}"})

    assert (refusal["type"], refusal["code"]) == ("error", "throttled")
    assert 1 <= refusal["retry_after"] <= 3600
    assert (code, over_http.status_code, over_http.json()["code"]) == (4429, 429, "throttled")
    assert 1 <= int(over_http["Retry-After"]) <= 3600
    await stream(eve)


@pytest.mark.parametrize("path", ["/workflow/999", "/nothing", "/workflow/99999999999999999999999"])
async def test_an_unknown_stream_is_closed_as_unknown(connect: Connect, ada: User, path: str) -> None:
    socket = await connect(path, authorization=f"Bearer {await in_thread(token_of)(ada)}")

    assert await socket.closed() == 4404


@pytest.mark.parametrize(
    ("path", "ending"),
    [
        ("/nothing", (4404, "There is no stream at this address.")),
        ("/workflow/999", (4404, "There is no workflow 999, or you cannot see it.")),
        ("/user/999", (4403, "Only administrators may follow another user.")),
        (f"?{'é' * 90}=1", (4400, f"Unknown parameter {'Ã©' * 26}")),
    ],
)
async def test_a_close_frame_says_why(connect: Connect, ada: User, path: str, ending: tuple[int, str]) -> None:
    """Before: only an error had words, and only some closes have an error before them."""
    socket = await connect(path, authorization=f"Bearer {await in_thread(token_of)(ada)}")

    code, reason = await socket.ending()

    assert (code, reason[: len(ending[1])]) == ending
    assert len(reason.encode()) <= 123


async def test_the_path_of_a_stream_may_end_in_a_slash(stream: Connect, ada: User, nightly: Workflow) -> None:
    for path in ("/", f"/user/{ada.pk}/", f"/workflow/{nightly.pk}/", f"/user/{ada.pk}/workflow/{nightly.pk}/"):
        await stream(ada, path)


async def test_an_unknown_path_accepts_the_handshake_so_that_a_browser_sees_the_code(
    sockets: list[Socket], ada: User
) -> None:
    socket = Socket("/nothing", protocols="svops.v1 bearer.x")
    sockets.append(socket)

    assert (await socket.open(), await socket.closed()) == ("svops.v1", 4404)


async def test_a_strangers_private_workflow_is_unknown(connect: Connect, eve: User, secret: Workflow) -> None:
    socket = await connect(f"/workflow/{secret.pk}", authorization=f"Bearer {await in_thread(token_of)(eve)}")

    assert await socket.closed() == 4404


async def test_somebody_elses_stream_is_for_admins_only(connect: Connect, ada: User, eve: User, root: User) -> None:
    theirs = f"/user/{ada.pk}"

    refused = await connect(theirs, authorization=f"Bearer {await in_thread(token_of)(eve)}")
    assert await refused.closed() == 4403
    allowed = await connect(theirs, authorization=f"Bearer {await in_thread(token_of)(root)}")
    assert (await allowed.next())["type"] == "connection.ready"
    unknown = await connect("/user/999", authorization=f"Bearer {await in_thread(token_of)(root)}")
    assert await unknown.closed() == 4404
