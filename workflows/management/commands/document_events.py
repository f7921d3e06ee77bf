from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator
from dataclasses import fields
from datetime import datetime
from enum import Enum
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints, is_typeddict

from django.core.management.base import BaseCommand

from workflows.eventlog.events import CATALOGUE, EventData

INTRODUCTION = """\
# Events

This page is made from the catalogue in code: `manage.py document_events > docs/events.md`.

`GET /api/v1/events/schema` says the same as JSON Schema.

Every transport (WebSocket, server-sent events, polling, webhooks) carries the same envelope:

```json
{"id": 4711, "seq": 5, "type": "workflow.started", "workflow_id": 3, "run_id": "0b5e…", "task_id": null,
 "user_id": 7, "timestamp": "2026-11-25T08:30:50.318634Z", "data": {"state": "running", "attempt": 1}}
```

- `id` is the only cursor. It grows in the order in which events become visible; nothing appears behind it. In
  server-sent events, every other frame has a cursor as its `id` too ([streams](streams.md#server-sent-events)).
- `seq` counts 1, 2, 3… within a run; null for events of no run.
- `user_id` is who triggered the run; null for a run that was started in Airflow itself.
- `timestamp` is when it happened, by Airflow's clock for what happens there. Sort by `id`, not by `timestamp`.
- `task_id` is Airflow's; `data.map_index` is -1 for a task that is not mapped.
- `data.state` of a run is one of SVOps' states; that of a task instance is Airflow's word, whatever it may be.
- A date-time is written as `timestamp` is: ISO 8601, in UTC. `duration_s` is in seconds.
- `data.by` is a username, or `Airflow`; empty when it is not known.
- `data.result` is `{"state", "task_id", "value", "size", "reason", "reference"}`:
  [the result of a run](api.md#the-result-of-a-run).
- `data.reason` of a run is its `state_reason`. After a stop it names who asked for it and why, and the task instances
  whose end is presumed and not proven.

The states `queued` and `stopping` have no event of their own: the run itself and `get_status` show them.
"""

BAR = r"\|"  # a bare one would end the cell of the table
NAMES: dict[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    NoneType: "null",
    datetime: "string (date-time)",
}


class Command(BaseCommand):
    help = "Print docs/events.md, made from the catalogue of events."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(document(), ending="")


def document() -> str:
    return INTRODUCTION + "".join(_section(kind) for kind in CATALOGUE.values())


def _section(kind: type[EventData]) -> str:
    rows = "\n".join(_rows(kind))
    return f"\n## {kind.type}\n\n{inspect.getdoc(kind)}\n\n| `data` | type |\n| --- | --- |\n{rows}\n"


def _rows(kind: type[EventData]) -> Iterator[str]:
    hints = get_type_hints(kind)
    return (f"| `{field.name}` | `{json_type(hints[field.name]).replace('|', BAR)}` |" for field in fields(kind))


def json_type(hint: Any) -> str:
    """Return a Python type as a reader of JSON knows it; raises `KeyError` for one that has no such name."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _one_of(member.value for member in hint)
    if get_origin(hint) is Literal:
        return _one_of(get_args(hint))
    if get_origin(hint) is dict or is_typeddict(hint):
        return "object"
    if get_origin(hint) is list:
        return f"array of {json_type(get_args(hint)[0])}"
    if parts := get_args(hint):
        return " | ".join(json_type(part) for part in parts)
    return NAMES[hint]


def _one_of(values: Iterable[str]) -> str:
    return " | ".join(json.dumps(value) for value in values)
