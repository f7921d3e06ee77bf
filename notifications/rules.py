"""Decisions, as functions of what they are given: who is told of what, when, and when to try again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from notifications.models import NotificationConfig, name_of
from workflows.audience import Audience
from workflows.events import NotificationFailed

# After the first attempt. https://www.svix.com and https://www.standardwebhooks.com have it much the same.
SCHEDULE = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
)
LONGEST_RETRY_AFTER = timedelta(hours=24)
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=5), timedelta(seconds=60)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is to be known of an event in order to decide who wants it.

    `audience` is None where there is no workflow, or none any more. `changed` tells whether a run's end differs
    from that of the workflow's run before; None where the event is not the end of a run.
    """

    type: str
    workflow_id: int | None
    user_id: int | None
    data: dict[str, Any]
    audience: Audience | None
    tags: frozenset[str] = frozenset()
    changed: bool | None = None


def why_not(config: NotificationConfig, types: frozenset[str], facts: Facts) -> str:
    """Why the config is not told of the event; empty when it is. `types` are those that it wants."""
    if facts.type not in types:
        return f"it does not want {name_of(facts.type)}"
    if facts.type == NotificationFailed.type and facts.data.get("config_id") == config.pk:
        return "a config is not told of its own failures"
    return why_hidden(config, facts) or why_filtered(config.filters, facts)


def why_hidden(config: NotificationConfig, facts: Facts) -> str:
    """Why its owner may not see the event; empty when they may. Asked when it is owed and again when it is sent."""
    owner = config.owner
    if facts.workflow_id is not None and facts.audience is None:
        return "the workflow was deleted"
    if owner is None:
        return ""
    if not owner.is_active:
        return "the account of its owner is not active"
    if facts.audience is not None:
        seen = facts.audience.includes(user_id=owner.pk, is_admin=owner.is_superuser)
        return "" if seen else "its owner may not see the workflow"
    public = facts.user_id is None or owner.is_superuser or facts.user_id == owner.pk
    return "" if public else "the event concerns somebody else"


def why_filtered(filters: dict[str, Any], facts: Facts) -> str:
    """Which of the filters the event does not pass; empty when it passes all."""
    return next((f"filtered out by {name}" for name, passes in _FILTERS.items() if not passes(filters, facts)), "")


def _passes_duration(filters: dict[str, Any], facts: Facts) -> bool:
    if filters.get("duration_over_s") is None or "duration_s" not in facts.data:
        return True
    duration = facts.data["duration_s"]
    return duration is not None and duration > filters["duration_over_s"]


_FILTERS: dict[str, Callable[[dict[str, Any], Facts], bool]] = {
    "workflows": lambda wanted, facts: not wanted.get("workflows") or facts.workflow_id in wanted["workflows"],
    "tags": lambda wanted, facts: not wanted.get("tags") or not facts.tags.isdisjoint(wanted["tags"]),
    "states": lambda wanted, facts: not wanted.get("states") or facts.data.get("state") in wanted["states"],
    "users": lambda wanted, facts: not wanted.get("users") or facts.user_id in wanted["users"],
    "duration_over_s": _passes_duration,
    "only_on_change": lambda wanted, facts: not wanted.get("only_on_change") or facts.changed is not False,
}


def quiet_end(config: NotificationConfig, now: datetime) -> datetime | None:
    """When the quiet hours that `now` is in end; None outside of them."""
    begin, end = config.quiet_from, config.quiet_until
    if begin is None or end is None or begin == end:
        return None
    local = now.astimezone(ZoneInfo(config.quiet_timezone))
    if not _between(local.time(), begin, end):
        return None
    day = local.date() if local.time() < end else local.date() + timedelta(days=1)
    return datetime.combine(day, end, tzinfo=local.tzinfo)


def _between(moment: time, begin: time, end: time) -> bool:
    """Whether the moment is in the hours from `begin` to `end`, over midnight if need be."""
    return begin <= moment < end if begin < end else moment >= begin or moment < end


def next_try(tries: int, *, jitter: float, retry_after: float | None = None) -> timedelta | None:
    """How long to wait after so many tries; None when there was the last one.

    `jitter` in [0, 1) adds up to a fifth, so that what failed together does not come back together. What the
    receiver asks for can only make it longer.
    """
    if tries > len(SCHEDULE):
        return None
    wait = SCHEDULE[tries - 1] * (1 + jitter / 5)
    asked = min(timedelta(seconds=min(retry_after or 0, 10**6)), LONGEST_RETRY_AFTER)
    return max(wait, asked)


def pause(failures: int, *, jitter: float, retry_after: float | None = None) -> timedelta:
    """How long a config whose receiver has failed so many times in a row is left alone.

    It bounds what a dead receiver costs: one try a minute, however much is owed to it.
    """
    wait = min(FIRST_PAUSE * (1 << min(failures - 1, 10)), LONGEST_PAUSE) * (1 + jitter / 5)
    asked = min(timedelta(seconds=min(retry_after or 0, 10**6)), LONGEST_RETRY_AFTER)
    return max(wait, asked)
