"""The rules as pure functions: which config gets which event, when, and when to try again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any, TypedDict, cast
from zoneinfo import ZoneInfo

from notifications.models import LONGEST_SUBJECT, NotificationConfig, name_of
from rest.backoff import doubling
from workflows.eventlog.audience import Audience
from workflows.eventlog.events import NotificationFailed
from workflows.models import Event

# The waits after each failed attempt. https://www.svix.com and https://www.standardwebhooks.com use similar ones.
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


class Filters(TypedDict, total=False):
    """What an event must match. A filter that is missing or empty passes every event."""

    workflows: list[int]
    tags: list[str]
    states: list[str]
    users: list[int]
    duration_over_s: float
    only_on_change: bool


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts about an event that the rules use.

    `audience` is None if the event is about no workflow and no DAG, or if the workflow is gone. `changed` says whether
    the end of a run differs from the end of the run before it; it is None if the event is not the end of a run.
    """

    type: str
    workflow_id: int | None
    user_id: int | None
    data: dict[str, Any]
    audience: Audience | None
    tags: frozenset[str] = frozenset()
    changed: bool | None = None


def why_not(config: NotificationConfig, types: frozenset[str], facts: Facts) -> str:
    """Return why the config does not get the event; empty if it does. `types` are those that it subscribes to."""
    if facts.type not in types:
        return f"the config does not subscribe to {name_of(facts.type)}"
    if facts.type == NotificationFailed.type and facts.data.get("config_id") == config.pk:
        return "a config is not notified of its own failures"
    return why_hidden(config, facts) or why_filtered(config.filters, facts)


def why_hidden(config: NotificationConfig, facts: Facts) -> str:
    """Return why the owner cannot see the event; empty if they can. It is asked on creation and before each attempt."""
    owner = config.owner
    if facts.workflow_id is not None and facts.audience is None:
        return "the workflow was deleted"
    if owner is None:
        return ""
    if not owner.is_active:
        return "the account of its owner is inactive"
    if facts.audience is not None:
        visible = facts.audience.includes(user_id=owner.pk, is_admin=owner.is_superuser)
        if visible:
            return ""
        return "its owner cannot see the " + ("workflow" if facts.workflow_id is not None else "DAG or its errors")
    public = facts.user_id is None or owner.is_superuser or facts.user_id == owner.pk
    return "" if public else "the event belongs to another user"


def why_filtered(filters: Filters, facts: Facts) -> str:
    """Return which filter stops the event; empty if none does."""
    return next((f"filtered out by {name}" for name, passes in _FILTERS.items() if not passes(filters, facts)), "")


def subjects(filters: Filters) -> list[str]:
    """Return the subjects of the first filter that names some, or [""]: an event that passes has one of them."""
    for name, subject in _SUBJECTS.items():
        if values := filters.get(name):
            return sorted({_subject(subject, value) for value in cast("list[object]", values)})
    return [""]


def subjects_of(facts: Facts) -> set[str]:
    """Return the subjects that an event has."""
    return own_subjects(facts) | {_subject("tag", tag) for tag in facts.tags}


def own_subjects(event: Facts | Event) -> set[str]:
    """Return the subjects that an event has by itself: all but the tags, which are those of its workflow's DAG."""
    named = {"workflow": event.workflow_id, "user": event.user_id, "state": event.data.get("state")}
    return {"", *(_subject(subject, value) for subject, value in named.items() if value is not None)}


def _subject(name: str, value: object) -> str:
    # Cut to the column's length: two subjects may then be the same, and `why_filtered` tells them apart.
    return f"{name}:{value}"[:LONGEST_SUBJECT]


_SUBJECTS = {"workflows": "workflow", "users": "user", "tags": "tag", "states": "state"}
START_OF_TAGS = _subject("tag", "")


def _passes_duration(filters: Filters, facts: Facts) -> bool:
    if filters.get("duration_over_s") is None or "duration_s" not in facts.data:
        return True
    duration = facts.data["duration_s"]
    return duration is not None and duration > filters["duration_over_s"]


_FILTERS: dict[str, Callable[[Filters, Facts], bool]] = {
    "workflows": lambda filters, facts: not filters.get("workflows") or facts.workflow_id in filters["workflows"],
    "tags": lambda filters, facts: not filters.get("tags") or not facts.tags.isdisjoint(filters["tags"]),
    "states": lambda filters, facts: not filters.get("states") or facts.data.get("state") in filters["states"],
    "users": lambda filters, facts: not filters.get("users") or facts.user_id in filters["users"],
    "duration_over_s": _passes_duration,
    "only_on_change": lambda filters, facts: not filters.get("only_on_change") or facts.changed is not False,
}


def quiet_end(config: NotificationConfig, now: datetime) -> datetime | None:
    """Return when the present quiet hours end; None outside of quiet hours."""
    begin, end = config.quiet_from, config.quiet_until
    if begin is None or end is None or begin == end:
        return None
    local = now.astimezone(ZoneInfo(config.quiet_timezone))
    if not _between(local.time(), begin, end):
        return None
    day = local.date() if local.time() < end else local.date() + timedelta(days=1)
    return datetime.combine(day, end, tzinfo=local.tzinfo)


def _between(moment: time, begin: time, end: time) -> bool:
    """Return whether the moment is between `begin` and `end`, which may be on the next day."""
    return begin <= moment < end if begin < end else moment >= begin or moment < end


def next_try(tries: int, *, jitter: float, retry_after: float | None = None) -> timedelta | None:
    """Return how long to wait after so many tries; None if that was the last one.

    `jitter` in [0, 1) adds up to a fifth, so that deliveries that failed together do not come back together.
    `retry_after` can only make the wait longer.
    """
    if tries > len(SCHEDULE):
        return None
    return _at_least(SCHEDULE[tries - 1] * (1 + jitter / 5), retry_after)


def pause(failures: int, *, jitter: float, retry_after: float | None = None) -> timedelta:
    """Return how long to pause a config after so many failures in a row.

    It limits the cost of a dead receiver to one try a minute, however many deliveries wait for it.
    """
    wait = doubling(failures, first=FIRST_PAUSE, longest=LONGEST_PAUSE)
    return _at_least(wait * (1 + jitter / 5), retry_after)


def _at_least(wait: timedelta, retry_after: float | None) -> timedelta:
    """Return `wait`, or the time that the receiver asks for if that is longer, up to a day."""
    asked = min(timedelta(seconds=min(retry_after or 0, 10**6)), LONGEST_RETRY_AFTER)
    return max(wait, asked)
