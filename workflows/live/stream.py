"""One reader's place in the log, on any transport: replay the missed events, follow the hub, check access again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import UUID

from django.conf import settings
from rest_framework.utils.encoders import JSONEncoder

from accounts.identity import Caller, TicketAction
from workflows.eventlog import publication
from workflows.eventlog.publication import Published
from workflows.live import admission
from workflows.live.access_checks import access_checks
from workflows.live.admission import CloseError, NotAllowedHereError
from workflows.live.hub import Bundle, Client, Control, Hub, StreamFilter, running_hub
from workflows.live.lanes import ANSWERING, on_lane
from workflows.live.shares import Window, share_of

_why_not_from = on_lane(ANSWERING)(publication.why_not_from)
_read_after = on_lane(ANSWERING)(publication.read_after)


def encode(frame: Mapping[str, Any]) -> str:
    return json.dumps(frame, cls=JSONEncoder, separators=(",", ":"))


class Stream:
    """The stream of one reader. `url_filter` is what its URL asks for; subscriptions can only narrow it."""

    def __init__(self, hub: Hub, caller: Caller, url_filter: StreamFilter) -> None:
        self._is_open = False
        self.hub = hub
        self.caller = caller
        self.url_filter = url_filter
        self.client = Client(user_id=caller.user.pk, is_admin=caller.user.is_superuser, filters=frozenset({url_filter}))
        self.began_at = hub.position
        self.is_following = False
        self.is_resuming = False
        self.share = share_of(caller.user.pk)
        self.share.enter()
        self._is_open = True
        self.messages = Window()

    @classmethod
    async def open(cls, caller: Caller, url_filter: StreamFilter) -> Stream:
        """Raises `TooManyRequestsError`, or the `CloseError` that says why this caller may not read this stream."""
        await admission.admit(caller)
        url_filter = admission.narrow_to_credentials(caller, url_filter)
        await admission.check_readable(
            caller, user_id=url_filter.user_id, workflow_id=url_filter.workflow_id, run_id=url_filter.run_id
        )
        return cls(await running_hub(), caller, url_filter)

    def close(self) -> None:
        self._leave_share()
        self.hub.remove(self.client)

    def __del__(self) -> None:
        # A reader may disconnect before anybody reads the stream; then nobody closes it.
        self._leave_share()

    def _leave_share(self) -> None:
        if self._is_open:
            self._is_open = False
            self.share.leave()

    def count_message(self) -> None:
        """Count a message of the client. Raises `TooManyRequestsError` if it is one too many."""
        self.messages.count(most=settings.STREAM_MESSAGES_PER_MINUTE)
        self.share.messages.count(most=settings.USER_MESSAGES_PER_MINUTE)

    def put(self, kind: str, resume_from: int | None = None, /, **fields: Any) -> None:
        """Queue a frame that is not an event, after the events that are queued already."""
        self.client.put(Control(kind, encode({"type": kind, **fields}), resume_from))

    def follow(self) -> None:
        """Receive what the hub delivers from now on."""
        self.hub.add(self.client)
        self.is_following = True

    def _leave(self) -> None:
        self.hub.remove(self.client)
        self.is_following = False

    def set_filters(self, filters: frozenset[StreamFilter]) -> None:
        """Replace the subscriptions."""
        self.hub.remove(self.client)
        self.client.filters = filters
        if self.is_following:
            self.hub.add(self.client)

    async def beat(self) -> None:
        """Check the caller's access again and send a heartbeat. Raises the `CloseError` that ends the stream."""
        asked = self.caller
        try:
            present = await access_checks().check(asked, self.url_filter)
        except CloseError:
            # Others were presented meanwhile; the next heartbeat checks those.
            if self.caller is asked:
                raise
        else:
            if self.caller is asked:
                self._take(present)
        # During a replay the hub is ahead of what the reader has been sent.
        if self.is_following:
            self.put("heartbeat", self.hub.position, cursor=self.hub.position)

    def renew(self, caller: Caller, *, asked: StreamFilter) -> None:
        """Go on with other credentials of the same user, for the same: `asked` is what the URL asks for.

        Raises `NotAllowedHereError`; then the stream goes on with those that it has.
        """
        is_same = caller.user.pk == self.caller.user.pk
        if not is_same or admission.narrow_to_credentials(caller, asked) != self.url_filter:
            raise NotAllowedHereError("These credentials are of another user, or for something else than this stream.")
        if not caller.may(admission.SCOPE, TicketAction.VIEW):
            raise NotAllowedHereError(f"This needs the scope {admission.SCOPE}.")
        self._take(caller)

    def _take(self, caller: Caller) -> None:
        self.caller = caller
        self.client.is_admin = caller.user.is_superuser

    async def replay(self, after: int) -> None:
        """Queue the complete log after a cursor, then follow. Or refuse with a reason.

        If the stream follows already, `resuming` says where the replay begins: it may repeat events that came live
        before. After a refusal the stream goes on as if it had not asked.
        """
        self.is_resuming = True
        async with self.share.turn():
            refusal = await _why_not_from(after)
        if refusal:
            # The events after `began_at` follow, unless the stream follows already.
            resume_from = None if self.is_following else self.began_at
            self.put("recovered", resume_from, recovered=False, reason=refusal, **{"from": after, "to": after})
            if not self.is_following:
                await self._catch_up(self.began_at)
        else:
            if self.is_following:
                # Both at once: no live event comes between this mark and the end of the replay.
                self._leave()
                self.put("resuming", **{"from": after})
            reached = await self._catch_up(after)
            self.put("recovered", reached, recovered=True, **{"from": after, "to": reached})
        # No await from here on: no event can be missed between the end of the catching up and following.
        if not self.is_following:
            self.follow()
        self.is_resuming = False

    async def _catch_up(self, after: int) -> int:
        """Queue page after page as fast as the reader takes them, until the hub's position. Return that position."""
        while after > self.hub.position:  # noqa: ASYNC110 - rare and short
            # The reader's previous process was ahead of this one. Following now would send events twice.
            await asyncio.sleep(0.05)
        while after < self.hub.position:
            target = self.hub.position
            async with self.share.turn():
                page = await _read_after(after, run_ids=self._runs_asked_for())
            audiences = await self.hub.audiences_of(page)
            # The hub has not reached the rest yet, and will deliver it.
            reached = [event for event in page if event.position <= self.hub.position]
            # Empty if runs at the end of the log were deleted together with their events.
            after = reached[-1].position if reached else target
            visible = [e for e in reached if self.client.may_see(e, audiences) and self.client.asks_for(e)]
            for part in _in_parts(visible):
                self.client.send(Bundle(part))
                await self.client.wait_until_idle()
        return after

    def _runs_asked_for(self) -> set[UUID] | None:
        """Return the runs to which every subscription is narrowed: then a replay need not read the rest of the log."""
        run_ids = [one.run_id for one in self.client.filters]
        return None if None in run_ids else {UUID(run_id) for run_id in run_ids}


def _in_parts(events: Iterable[Published]) -> Iterator[list[Published]]:
    """Yield the events in parts that fill a quarter of an empty queue each."""
    part: list[Published] = []
    size = 0
    for event in events:
        if part and size + len(event.frame) > settings.STREAM_QUEUE_BYTES // 4:
            yield part
            part, size = [], 0
        part.append(event)
        size += len(event.frame)
    if part:
        yield part
