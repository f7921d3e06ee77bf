"""What is said on a stream beside the events: the frames of the server, and the messages of a client.

The descriptions of the API are made from these. A test reads every frame of every test of the streams against them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict
from uuid import UUID


class ConnectionReadyFrame(TypedDict):
    """The stream is open. `cursor` is the end of the log; a heartbeat comes every `heartbeat_s` seconds."""

    type: Literal["connection.ready"]
    cursor: int
    heartbeat_s: float
    protocol: int


class HeartbeatFrame(TypedDict):
    """The client has all events up to `cursor`."""

    type: Literal["heartbeat"]
    cursor: int


ResumingFrame = TypedDict("ResumingFrame", {"type": Literal["resuming"], "from": int})
ResumingFrame.__doc__ = "The answer to `resume`: forget all events with a higher id than `from`, they come again."

RecoveredFrame = TypedDict(
    "RecoveredFrame",
    {"type": Literal["recovered"], "recovered": bool, "from": int, "to": int, "reason": NotRequired[str]},
)
RecoveredFrame.__doc__ = "The replay is complete; or it is refused for a reason, and the stream is live."


class PongFrame(TypedDict):
    """The answer to `ping`."""

    type: Literal["pong"]


class SubscribedFrame(TypedDict):
    """The stream is narrowed to this, beside its other subscriptions."""

    type: Literal["subscribed"]
    workflow_id: NotRequired[int]
    run_id: NotRequired[UUID]
    types: NotRequired[list[str]]


class UnsubscribedFrame(TypedDict):
    """The subscription has ended."""

    type: Literal["unsubscribed"]
    workflow_id: NotRequired[int]
    run_id: NotRequired[UUID]
    types: NotRequired[list[str]]


class AuthenticatedFrame(TypedDict):
    """The stream goes on with these credentials, until `expires_at`; null if they do not expire by themselves."""

    type: Literal["authenticated"]
    expires_at: datetime | None


class ErrorFrame(TypedDict):
    """What was asked for cannot be done; or the stream ends, then the close code and its reason say why too."""

    type: Literal["error"]
    code: str
    detail: str
    retry_after: NotRequired[int]


FRAMES: tuple[Any, ...] = (
    ConnectionReadyFrame, HeartbeatFrame, ResumingFrame, RecoveredFrame, PongFrame, SubscribedFrame, UnsubscribedFrame,
    AuthenticatedFrame, ErrorFrame,
)  # fmt: skip


class PingMessage(TypedDict):
    """Answered with `pong`."""

    type: Literal["ping"]


class AuthMessage(TypedDict):
    """An access token, an API key or a ticket: the first message of a stream that was opened without one.

    On an open stream: newer credentials of the same user for the same, before those of the stream end.
    """

    type: Literal["auth"]
    token: str


class SubscribeMessage(TypedDict):
    """Narrow the stream. Several subscriptions add up, within the address of the stream."""

    type: Literal["subscribe"]
    workflow_id: NotRequired[int]
    run_id: NotRequired[UUID]
    types: NotRequired[list[str]]


class UnsubscribeMessage(TypedDict):
    """End a subscription."""

    type: Literal["unsubscribe"]
    workflow_id: NotRequired[int]
    run_id: NotRequired[UUID]
    types: NotRequired[list[str]]


class GetStatusMessage(TypedDict):
    """Answered with `status`: a run, its tasks and the cursor, together."""

    type: Literal["get_status"]
    run_id: UUID


class ResumeMessage(TypedDict):
    """Replay the log after a cursor, then go on live."""

    type: Literal["resume"]
    after: int


MESSAGES: tuple[Any, ...] = (
    PingMessage,
    AuthMessage,
    SubscribeMessage,
    UnsubscribeMessage,
    GetStatusMessage,
    ResumeMessage,
)
