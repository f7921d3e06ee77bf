"""The decisions of the client, with a script in the place of the platform."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from svops_client import AuthenticationError, ConnectionLostError, CursorGoneError, PermissionDeniedError
from svops_client._core import backoff, http
from svops_client._core.credentials import Given
from svops_client._core.effects import (
    Authorize,
    Connect,
    Effect,
    Emit,
    HandshakeRefusedError,
    Op,
    Receive,
    Request,
    Response,
    Say,
    SocketClosedError,
    Wait,
)
from svops_client._core.follow import follow
from svops_client._core.platform import Platform
from svops_client._core.reader import Reader, Wanted
from svops_client.errors import SVOpsError, ThrottledError, TransportError, UnavailableError

READY = {"type": "connection.ready", "cursor": 40, "heartbeat_s": 20}
RECOVERED = {"type": "recovered", "recovered": True, "from": 7, "to": 40}


class Clock:
    """A time that passes when somebody waits, and a chance that is always the same."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time


def platform(clock: Clock, *, renewable: bool = False, **options: Any) -> Platform:
    source: Any = (lambda: "new") if renewable else "key"
    return Platform(base_url="http://svops", credentials=Given(source), now=clock.now, chance=lambda: 0.0, **options)


def play(op: Op[Any], clock: Clock, script: list[Any]) -> tuple[Any, list[Effect]]:
    """Run an operation: the script has the answer to each request, connection and reception, or the error of it."""
    answers, answer = iter(script), None
    asked: list[Effect] = []
    failure: SVOpsError | None = None
    while True:
        try:
            effect = op.throw(failure) if failure else op.send(answer)
        except StopIteration as end:
            return end.value, asked
        answer, failure = None, None
        asked.append(effect)
        if isinstance(effect, Wait):
            clock.time += effect.seconds
        elif isinstance(effect, Authorize):
            answer = f"Bearer {'new' if effect.refused else 'key'}"
        elif isinstance(effect, Request | Connect | Receive):
            answer = next(answers)
            if isinstance(answer, SVOpsError):
                answer, failure = None, answer
            elif isinstance(answer, dict):
                answer = json.dumps(answer)


def event(position: int, state: str = "running", kind: str = "workflow.started") -> dict[str, Any]:
    return {
        "id": position, "seq": 1, "type": kind, "workflow_id": 3, "run_id": "r", "task_id": None, "user_id": 7,
        "timestamp": "2026-03-02T12:00:00Z", "data": {"state": state, "attempt": 1},
    }  # fmt: skip


def items(asked: list[Effect]) -> list[int]:
    return [effect.item.id for effect in asked if isinstance(effect, Emit)]


def waits(asked: list[Effect]) -> list[float]:
    return [effect.seconds for effect in asked if isinstance(effect, Wait)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reader() -> Reader:
    return Reader(Wanted(workflow=3, run="r"), 7, until_ended=True)


END = event(41, "success", "workflow.completed")


def test_live_events_before_the_replay_are_not_taken_twice(clock: Clock, reader: Reader) -> None:
    resuming = {"type": "resuming", "from": 7}
    script = [None, READY, event(39), resuming, event(8), event(39), RECOVERED, END]

    _, asked = play(follow(platform(clock), reader), clock, script)

    assert items(asked) == [8, 39, 41]
    assert [json.loads(effect.text) for effect in asked if isinstance(effect, Say)] == [
        {"type": "subscribe", "run_id": "r"},
        {"type": "resume", "after": 7},
    ]


def test_an_end_within_a_replay_is_not_the_last_word(clock: Clock, reader: Reader) -> None:
    replay = [event(8, "failed", "workflow.failed"), event(9, "queued", "workflow.retried")]
    script = [None, READY, {"type": "resuming", "from": 7}, *replay, RECOVERED, END]

    _, asked = play(follow(platform(clock), reader), clock, script)

    assert items(asked) == [8, 9, 41]


def test_after_a_cut_it_resumes_from_its_cursor(clock: Clock, reader: Reader) -> None:
    resuming = {"type": "resuming", "from": 7}
    first = [None, READY, resuming, event(8), RECOVERED, TransportError("cut")]
    script = [*first, None, READY, resuming, RECOVERED, {"type": "events", "events": [event(41), END | {"id": 42}]}]

    _, asked = play(follow(platform(clock), reader), clock, script)

    assert items(asked) == [8, 41, 42]
    assert json.loads([effect.text for effect in asked if isinstance(effect, Say)][-1])["after"] == 40
    assert waits(asked) == [0.1]


def test_a_token_that_has_ended_is_renewed_at_once(clock: Clock, reader: Reader) -> None:
    script = [None, READY, RECOVERED, SocketClosedError(4401), None, READY, RECOVERED, END]

    _, asked = play(follow(platform(clock, renewable=True), reader), clock, script)

    assert [effect.refused for effect in asked if isinstance(effect, Authorize)] == [None, "Bearer key"]
    assert [effect.headers["Authorization"] for effect in asked if isinstance(effect, Connect)] == [
        "Bearer key",
        "Bearer new",
    ]
    assert waits(asked) == [0.0]


def test_without_another_token_the_end_of_one_is_final(clock: Clock, reader: Reader) -> None:
    with pytest.raises(AuthenticationError):
        play(follow(platform(clock), reader), clock, [None, SocketClosedError(4401)])


def test_a_refusal_by_close_code_is_final_and_has_its_reason(clock: Clock, reader: Reader) -> None:
    with pytest.raises(PermissionDeniedError, match="no longer yours") as refused:
        play(follow(platform(clock), reader), clock, [None, SocketClosedError(4403, "no longer yours")])

    assert refused.value.status == 403


def test_too_many_streams_wait_as_long_as_the_platform_asks(clock: Clock, reader: Reader) -> None:
    error = {"type": "error", "code": "busy", "detail": "too many", "retry_after": 9}
    script = [None, error, SocketClosedError(4429), None, READY, RECOVERED, END]

    _, asked = play(follow(platform(clock), reader), clock, script)

    assert waits(asked) == [9.0]


def test_a_log_that_has_a_gap_after_the_cursor_is_an_error(clock: Clock, reader: Reader) -> None:
    refused = {"type": "recovered", "recovered": False, "reason": "events after the cursor are no longer kept"}

    with pytest.raises(CursorGoneError, match="no longer kept"):
        play(follow(platform(clock), reader), clock, [None, READY, refused])


def test_where_websockets_are_refused_it_polls(clock: Clock, reader: Reader) -> None:
    page = Response(200, {}, {"cursor": 50, "results": [event(8), END]})

    _, asked = play(follow(platform(clock), reader), clock, [HandshakeRefusedError(426, {})] * 3 + [page])

    assert items(asked) == [8, 41]
    assert [effect.path for effect in asked if isinstance(effect, Request)] == ["/api/v1/events"]


def test_a_stream_is_given_up_when_patience_ends(clock: Clock, reader: Reader) -> None:
    def for_ever() -> Iterator[SVOpsError]:
        while True:
            yield TransportError("nobody there")

    with pytest.raises(ConnectionLostError, match="nobody there"):
        play(follow(platform(clock, patience=60), reader), clock, for_ever())  # type: ignore[arg-type]

    assert 60 < clock.time < 60 + backoff.LONGEST


def test_a_silent_stream_is_left_after_some_heartbeats(clock: Clock, reader: Reader) -> None:
    script = [None, READY, RECOVERED, None, None, READY, RECOVERED, END]

    _, asked = play(follow(platform(clock), reader), clock, script)

    assert {effect.timeout for effect in asked if isinstance(effect, Receive)} == {30.0, 50.0}
    assert items(asked) == [41]


def refusal(status: int, **headers: str) -> Response:
    return Response(status, headers, {"code": "throttled", "detail": "not now", "request_id": "r"})


def test_retry_after_is_obeyed_also_for_a_write(clock: Clock) -> None:
    script = [refusal(429, **{"retry-after": "7"}), refusal(503, **{"retry-after": "2"}), Response(200, {}, {})]

    _, asked = play(http.call(platform(clock), "POST", "/control"), clock, script)

    assert waits(asked) == [7.0, 2.0]


@pytest.mark.parametrize("failure", [refusal(503), TransportError("cut")])
def test_a_write_that_may_have_arrived_is_not_sent_again(clock: Clock, failure: Any) -> None:
    with pytest.raises((UnavailableError, TransportError)):
        play(http.call(platform(clock), "POST", "/control"), clock, [failure])


def test_a_wait_longer_than_the_time_for_retries_is_left_to_the_caller(clock: Clock) -> None:
    with pytest.raises(ThrottledError) as refused:
        play(http.call(platform(clock), "GET", "/runs"), clock, [refusal(429, **{"retry-after": "3600"})])

    assert refused.value.retry_after == 3600.0
    assert clock.time == 0.0


def test_the_link_to_the_next_page_does_not_choose_the_host(clock: Clock) -> None:
    pages = [
        Response(200, {}, {"next": "http://elsewhere.example/api/v1/runs?cursor=abc&state=failed&state=stopped",
                           "results": [1]}),
        Response(200, {}, {"next": None, "results": [2]}),
    ]  # fmt: skip

    _, asked = play(http.pages(platform(clock), "/api/v1/runs", {}, lambda raw: raw), clock, pages)

    requests = [effect for effect in asked if isinstance(effect, Request)]
    assert [request.path for request in requests] == ["/api/v1/runs", "/api/v1/runs"]
    assert requests[1].query == (("cursor", "abc"), ("state", "failed"), ("state", "stopped"))
