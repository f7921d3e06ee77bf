"""What the command prints: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any, cast

from rich.console import Console
from rich.markup import escape
from rich.table import Table

WIDE = 1000
out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)

COLOURS = {
    "success": "green", "running": "cyan", "queued": "blue", "pending": "blue", "failed": "red", "stopped": "yellow",
    "stopping": "yellow", "upstream_failed": "red", "up_for_retry": "yellow", "skipped": "magenta",
}  # fmt: skip
ICONS = {"success": "✓", "running": "●", "failed": "✗", "upstream_failed": "✗", "skipped": "○", "up_for_retry": "↻"}


class Format(str, Enum):
    """How a command prints."""

    TABLE = "table"
    JSON = "json"


def as_json(value: Any) -> str:
    """Return JSON; times as the API writes them."""
    return json.dumps(value, default=_jsonable, ensure_ascii=False)


def _jsonable(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if is_dataclass(value):
        return asdict(cast("Any", value))
    raise TypeError(type(value).__name__)


def print_json(value: Any) -> None:
    out.file.write(as_json(value) + "\n")
    out.file.flush()


def print_rows(rows: Iterable[Any], columns: Mapping[str, str], output: Format) -> None:
    """Print dataclasses: as a JSON array, or as a table with these titles and fields."""
    if output is Format.JSON:
        print_json(list(rows))
        return
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(cell(getattr(row, field)) for field in columns.values()))
    # What is no terminal has no width: nothing is cut for a program or a file.
    (out if out.is_terminal else Console(file=out.file, width=WIDE, soft_wrap=True)).print(table)


def print_fields(title: str, fields: Sequence[tuple[str, Any]]) -> None:
    out.print(f"[bold]{escape(title)}[/bold]")
    for name, value in fields:
        if value not in (None, "", []):
            out.print(f"  {name:<12} {cell(value)}")


def cell(value: Any) -> str:
    """Return a value as markup."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return seconds(value)
    if isinstance(value, str) and value in COLOURS:
        return state(value)
    return escape(str(value) if isinstance(value, (str, int)) else as_json(value))


def state(value: str) -> str:
    colour = COLOURS.get(value, "white")
    return f"[{colour}]{escape(value)}[/{colour}]"


def seconds(value: float) -> str:
    whole = int(value)
    if whole < 60:
        return f"{value:.1f} s"
    return f"{whole // 60}:{whole % 60:02} min" if whole < 3600 else f"{whole // 3600}:{whole // 60 % 60:02} h"
