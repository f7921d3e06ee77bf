"""`/api/v2` of Airflow 3: JWT, and the words that `types` reads as they are."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, ClassVar

from .http import Params, Wire
from .login import TokenLogin
from .tasklog import Ending3, without_header
from .types import LogChunk, LogLine

# Longer ones might not pass a proxy; the client filters what it gets anyway.
MAX_PATTERN_CHARS = 2000


class V2:
    prefix: ClassVar[str] = "/api/v2"
    health_path: ClassVar[str] = "/monitor/health"
    warm_up_path: ClassVar[str | None] = "/execution/health"
    clear_answers_references_only: ClassVar[bool] = False
    # Newest first: an instance that is made or cleared while pages are read joins in front, where it
    # pushes none that is unread past the reader. `updated_at` is not offered for task instances.
    task_feed: ClassVar[Params] = {"order_by": "-id"}
    task_batch: ClassVar[Mapping[str, str]] = {"order_by": "-id"}
    log_type: ClassVar[str] = "application/x-ndjson"

    def login(self, wire: Wire, *, username: str, password: str) -> TokenLogin:
        return TokenLogin(wire, username=username, password=password)

    def only_dags(self, dag_ids: Collection[str]) -> Params:
        # Since 3.3, and matches prefixes; earlier versions ignore a parameter that they do not know.
        pattern = "|".join(sorted(dag_ids))
        return {"dag_id_prefix_pattern": pattern} if len(pattern) <= MAX_PATTERN_CHARS else {}

    def trigger_body(self, *, dag_run_id: str, conf: Mapping[str, Any], note: str | None) -> Mapping[str, Any]:
        # The key logical_date is required. Null, because two runs must not share a date.
        return {"dag_run_id": dag_run_id, "conf": dict(conf), "note": note, "logical_date": None}

    def note_path(self, run_path: str) -> str:
        return run_path

    def details(self, get: Callable[[str], Any], dag_path: str) -> Any:
        return get(f"{dag_path}/details")

    def dag(self, data: Any) -> Any:
        return data

    def reference(self, data: Any) -> Any:
        return data

    def log(self, data: Any) -> LogChunk:
        return LogChunk.parse(data)

    def log_lines(self, lines: Iterable[bytes]) -> Iterator[LogLine]:
        return without_header(map(_line, lines))

    def ending(self) -> Ending3:
        return Ending3()


def _line(raw: bytes) -> LogLine:
    try:
        return LogLine.parse(json.loads(raw))
    except ValueError:
        # Cut, because it was too long.
        return LogLine(timestamp=None, level=None, text=raw.decode(errors="replace"))
