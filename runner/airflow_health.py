"""Whether an Airflow can be reached, and whether each of its processes still works."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import requests

from runner.part import Check

# Seconds of failed checks after which a process hangs, and the age from which a heartbeat is a failed check. A busy
# SQLite holds up a heartbeat for up to a minute.
DEADLINE = 120.0
HEARTBEAT_AGE = 60.0
TIMEOUT = 30.0

# Returns the JSON at a path of Airflow; raises `requests.RequestException`.
Get = Callable[..., Any]


def check(get: Get, *, version: str, health: str, component: str | None) -> Check:
    """Of the process that is this component; None: of the API. `version` and `health` are paths of the API."""
    wrong = (lambda: _late(get, health, component)) if component else (lambda: _mute(get, version))
    return Check(wrong=wrong, deadline=DEADLINE)


def _mute(get: Get, version: str) -> str:
    try:
        get(version, timeout=TIMEOUT)
    except requests.RequestException as exc:
        return f"its API does not answer ({type(exc).__name__})"
    return ""


def _late(get: Get, health: str, component: str) -> str:
    try:
        heartbeat = get(health, timeout=TIMEOUT)[component].get(f"latest_{component}_heartbeat")
    except requests.RequestException:
        return ""  # only the API knows
    age = (datetime.now(UTC) - datetime.fromisoformat(heartbeat)).total_seconds() if heartbeat else 0
    return f"its last heartbeat was {age:.0f} s ago" if age > HEARTBEAT_AGE else ""


def unreachable(url: str) -> str:
    """Return why the Airflow at `url` cannot be used; "" if it answers as a 3.x or 2.x does."""
    for version in ("v2", "v1"):
        try:
            answer = requests.get(f"{url.rstrip('/')}/api/{version}/version", timeout=5)
        except requests.RequestException as exc:
            return f"it does not answer ({type(exc).__name__})"
        if answer.ok:
            return ""
    return f"it answers HTTP {answer.status_code}, not as an Airflow would"
