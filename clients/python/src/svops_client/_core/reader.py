"""Reads the frames of a stream: what was missed, each event once and in order, and when a run has ended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from svops_client.envelope import Event
from svops_client.errors import CursorGoneError, InvalidRequestError
from svops_client.models import TERMINAL
from svops_client.parsing import parse_event

Raw = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which events: all that the caller sees, or those of a workflow, a run, a user, of some types."""

    workflow: int | None = None
    run: str | None = None
    user: int | None = None
    types: frozenset[str] = frozenset()

    def has(self, event: Raw) -> bool:
        narrow = (("workflow_id", self.workflow), ("run_id", self.run), ("user_id", self.user))
        return all(value in (None, event.get(name)) for name, value in narrow) and (
            not self.types or event["type"] in self.types
        )

    @property
    def path(self) -> str:
        """The address of the WebSocket, which already narrows the stream."""
        user = "" if self.user is None else f"/user/{self.user}"
        workflow = "" if self.workflow is None else f"/workflow/{self.workflow}"
        return f"/api/v1/ws{user}{workflow}"

    @property
    def subscription(self) -> dict[str, Any] | None:
        """The message that narrows the stream further, or None."""
        run = {"run_id": self.run} if self.run else {}
        types = {"types": sorted(self.types)} if self.types else {}
        return {"type": "subscribe", **run, **types} if run or types else None

    @property
    def query(self) -> dict[str, Any]:
        return {"workflow": self.workflow, "run": self.run, "user": self.user, "type": sorted(self.types)}


@dataclass
class Reader:
    """The place of one reader in the log. `cursor` is None until the stream has said where it begins."""

    wanted: Wanted
    cursor: int | None = None
    until_ended: bool = False
    heartbeat: float = 20.0
    last_error: dict[str, Any] = field(default_factory=dict)
    _counts: bool = False
    _replays: bool = False
    _state: str = ""

    def begin(self) -> None:
        """A new connection: nothing that it sends counts before the replay that `hello` asks for."""
        self._counts, self._replays, self.last_error = False, True, {}

    def hello(self, ready: Raw, *, subscribes: bool) -> Iterator[str]:
        """Yield what to send after `connection.ready`."""
        self.heartbeat = float(ready.get("heartbeat_s", self.heartbeat))
        if subscribes and (subscription := self.wanted.subscription):
            yield json.dumps(subscription)
        if self.cursor is None:
            # The stream is live from here on, also without a replay.
            self.cursor, self._counts, self._replays = int(ready["cursor"]), True, False
        else:
            yield json.dumps({"type": "resume", "after": self.cursor})

    def receive(self, frame: Raw) -> Iterator[Event]:
        """Yield the events of a frame that are wanted and new."""
        kind = frame["type"]
        if kind == "events":
            for event in frame["events"]:
                yield from self._take(event)
        elif "id" in frame:
            yield from self._take(frame)
        elif kind == "resuming":
            self._counts = True
        elif kind == "recovered":
            self._recovered(frame)
        elif kind == "heartbeat" and self._counts:
            self._reached(int(frame["cursor"]))
        elif kind == "error":
            self._error(frame)

    def page(self, answer: Raw) -> Iterator[Event]:
        """Yield the events of a page of the log, after which the reader stands at its cursor."""
        self._counts = True
        for event in answer["results"]:
            yield from self._take(event)
        self._reached(int(answer["cursor"]))

    @property
    def is_over(self) -> bool:
        """Whether the run has ended, as far as the log is known."""
        return self.until_ended and not self._replays and self._state in TERMINAL

    @property
    def knows_state(self) -> bool:
        """Whether an event has told the state of the run."""
        return bool(self._state)

    def caught_up(self) -> None:
        self._replays = False

    def _take(self, event: Raw) -> Iterator[Event]:
        # Before `resuming`, live events come that the replay repeats.
        if not self._counts or event["id"] <= (self.cursor or 0):
            return
        self.cursor = event["id"]
        if not self.wanted.has(event):
            return
        if event["type"].startswith("workflow."):
            self._state = event["data"].get("state", self._state)
        yield parse_event(event)

    def _reached(self, cursor: int) -> None:
        self.cursor = max(self.cursor or 0, cursor)

    def _recovered(self, frame: Raw) -> None:
        if not frame["recovered"]:
            raise CursorGoneError(str(frame["reason"]), status=410, code="cursor_gone", body=frame)
        self._counts, self._replays = True, False
        self._reached(int(frame["to"]))

    def _error(self, frame: Raw) -> None:
        self.last_error = dict(frame)
        if frame.get("code") == "bad_message":
            raise InvalidRequestError(str(frame["detail"]), status=400, code="bad_message", body=frame)
