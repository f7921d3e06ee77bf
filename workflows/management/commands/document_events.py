from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from django.core.management.base import BaseCommand

from workflows.events import CATALOGUE, EventData

INTRODUCTION = """\
# Events

This page is made from the catalogue in code: `manage.py document_events > docs/events.md`.

Every transport (WebSocket, server-sent events, polling, webhooks) carries the same envelope:

```json
{"id": 4711, "seq": 5, "type": "workflow.started", "workflow_id": 3, "run_id": "0b5e…", "task_id": null,
 "user_id": 7, "timestamp": "2026-11-25T08:30:50.318634Z", "data": {"state": "running", "attempt": 1}}
```

- `id` is the one cursor: strictly increasing in the order in which events become visible; nothing appears behind it.
- `seq` counts 1, 2, 3… within a run; null for events of no run.
- `user_id` is who triggered the run; null for a run that was started in Airflow itself.
- `timestamp` is when it happened, by Airflow's clock for what happens there. Order is `id`, not `timestamp`.
- `task_id` is Airflow's; `data.map_index` is -1 for a task that is not mapped.

The states `queued` and `stopping` have no event of their own: a run's answer and `get_status` show them.
"""


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
    # Annotations are strings here: the module postpones their evaluation.
    return (f"| `{field.name}` | {str(field.type).replace('|', 'or')} |" for field in fields(kind))
