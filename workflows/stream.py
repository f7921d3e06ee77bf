"""One reader's place in the log, whatever carries it: replay what was missed, follow the hub, stay allowed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from channels.db import database_sync_to_async
from django.conf import settings
from rest_framework.utils.encoders import JSONEncoder

from accounts.identity import Caller
from workflows import outbox, stream_access
from workflows.hub import Bundle, Client, Control, Hub, Wanted, running_hub
from workflows.outbox import Published
from workflows.recheck import rechecks


def encode(frame: Mapping[str, Any]) -> str:
    return json.dumps(frame, cls=JSONEncoder, separators=(",", ":"))


class Stream:
    """What `caller` wants of the log. `route` bounds it; subscriptions narrow it within these bounds."""

    def __init__(self, hub: Hub, caller: Caller, route: Wanted) -> None:
        self.hub = hub
        self.caller = caller
        self.route = route
        self.client = Client(user_id=caller.user.pk, is_admin=caller.user.is_superuser, wanted=frozenset({route}))
        self.began_at = hub.position
        self.is_following = False
        self.is_resuming = False

    @classmethod
    async def open(cls, caller: Caller, route: Wanted) -> Stream:
        """Raises the `CloseError` that says why this caller may not read this, or `TooManyRequestsError`."""
        await stream_access.admit(caller)
        route = stream_access.within_bounds(caller, route)
        await stream_access.check_route(
            caller, user_id=route.user_id, workflow_id=route.workflow_id, run_id=route.run_id
        )
        return cls(await running_hub(), caller, route)

    def close(self) -> None:
        self.hub.remove(self.client)

    def put(self, kind: str, **fields: Any) -> None:
        """Queue a frame that is no event, behind the events that are queued already."""
        self.client.put(Control(kind, encode({"type": kind, **fields})))

    def follow(self) -> None:
        """Take part in what the hub delivers from here on."""
        self.hub.add(self.client)
        self.is_following = True

    def _leave(self) -> None:
        self.hub.remove(self.client)
        self.is_following = False

    def want(self, wanted: frozenset[Wanted]) -> None:
        """Change the subscriptions."""
        self.hub.remove(self.client)
        self.client.wanted = wanted
        if self.is_following:
            self.hub.add(self.client)

    async def beat(self) -> None:
        """Look again whether the caller may still be here, and tell the head; raises the `CloseError` if not."""
        await self._recheck()
        # During a replay the hub is ahead of what the reader has been sent.
        if self.is_following:
            self.put("heartbeat", cursor=self.hub.position)

    async def _recheck(self) -> None:
        self.caller = await rechecks().look(self.caller, self.route)
        self.client.is_admin = self.caller.user.is_superuser

    async def replay(self, after: int) -> None:
        """Queue the log after a cursor, then follow: whole, or refused with the reason.

        A stream that follows already is told by `resuming` where the replay begins: what came live before that may be
        in it again. One that is refused goes on as if it had not asked.
        """
        self.is_resuming = True
        refusal = await database_sync_to_async(outbox.why_not_from)(after)
        if refusal:
            self.put("recovered", recovered=False, reason=refusal, **{"from": after, "to": after})
            if not self.is_following:
                await self._catch_up(self.began_at)
        else:
            if self.is_following:
                # Both at once: nothing live comes between this mark and the end of the replay.
                self._leave()
                self.put("resuming", **{"from": after})
            self.put("recovered", recovered=True, **{"from": after, "to": await self._catch_up(after)})
        # No await from here on: between the comparison that ended the catching up and this, nothing can fall.
        if not self.is_following:
            self.follow()
        self.is_resuming = False

    async def _catch_up(self, after: int) -> int:
        """Queue page after page as fast as the reader takes them, until we are where the hub is."""
        while after > self.hub.position:  # noqa: ASYNC110 - rare and short
            # The process that the reader comes from was ahead: to join now would send again what it has.
            await asyncio.sleep(0.05)
        while after < self.hub.position:
            target = self.hub.position
            page = await database_sync_to_async(outbox.read_after)(after)
            audiences = await self.hub.audiences_of(page)
            # The rest is the hub's to deliver, which has not come that far yet.
            reached = [event for event in page if event.position <= self.hub.position]
            # Nothing, where runs at the end of the log were deleted with their events.
            after = reached[-1].position if reached else target
            seen = [e for e in reached if self.client.sees(e, audiences) and self.client.wants(e)]
            for part in _parts(seen):
                self.client.send(Bundle(part))
                await self.client.idle()
        return after


def _parts(events: Iterable[Published]) -> Iterator[list[Published]]:
    """Parts of which each leaves room in an empty queue."""
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
