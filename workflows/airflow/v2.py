"""`/api/v2` of Airflow 3: JWT, and the names that `types` reads as they are."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from .access import Password
from .errors import AirflowShapeError
from .http import Params, RawLine, Wire
from .login import TokenLogin
from .states import STATES_BUT_RUNNING
from .tasklog import Ending3, cut, without_header
from .types import LogLine, NewRun

EVENT = re.compile(r'"event":\s*"((?:[^"\\]|\\.)*)', re.DOTALL)
FIELDS = {name: re.compile(rf'(?<!\\)"{name}":\s*"([^"\\]*)"') for name in ("timestamp", "level", "logger")}
# A longer one might not pass a proxy. A poll sends each pattern with four requests. So with more DAGs it reads what
# changes in all of Airflow, and the client drops what is not ours.
MAX_PATTERN_CHARS = 3000
MAX_PATTERNS = 4


class V2:
    prefix: ClassVar[str] = "/api/v2"
    health_path: ClassVar[str] = "/monitor/health"
    structure_path: ClassVar[str | None] = "/ui/structure/structure_data"
    clear_answers_references_only: ClassVar[bool] = False
    # Newest first: an instance that is created or cleared while pages are read moves to the front, so no unread one
    # moves behind the reader. Task instances cannot be ordered by `updated_at`.
    task_feed: ClassVar[Params] = {"order_by": "-id"}
    task_batch: ClassVar[Mapping[str, str]] = {"order_by": "-id"}
    due: ClassVar[str] = "run_after"
    versions_path: ClassVar[str | None] = "/dags/~/dagVersions"
    mark_events: ClassVar[str | list[str]] = ["patch_dag_run", "patch_task_instance"]
    log_type: ClassVar[str] = "application/x-ndjson"
    # Wrong in three ways, so that no version takes it: conf is no object, an interval has no end, a key is missing.
    dry_trigger: ClassVar[Mapping[str, Any]] = {"conf": "dry", "data_interval_start": "2000-01-01T00:00:00Z"}

    def __init__(self, version: str) -> None:
        self.version = version

    @property
    def states_but_running(self) -> Sequence[str]:
        # Airflow refuses a state that it does not know.
        return (*STATES_BUT_RUNNING, "awaiting_input") if self._is_at_least(3, 3) else STATES_BUT_RUNNING

    def login(self, wire: Wire, way: Password) -> TokenLogin:
        return TokenLogin(wire, way)

    def only_dags(self, dag_ids: Collection[str]) -> Sequence[Params]:
        # Earlier versions ignore this parameter: they would answer each request with everything. It matches prefixes.
        patterns = _patterns(dag_ids) if self._is_at_least(3, 3) else []
        return [{"dag_id_prefix_pattern": one} for one in patterns] if 0 < len(patterns) <= MAX_PATTERNS else [{}]

    def trigger_body(self, new: NewRun) -> Mapping[str, Any]:
        # The key logical_date is required. It is null by default, because two runs must not share a date.
        date = new.logical_date and new.logical_date.isoformat()
        body = {"dag_run_id": new.dag_run_id, "conf": dict(new.conf), "note": new.note, "logical_date": date}
        return {**body, **new.interval_fields()}

    def details(self, get: Callable[[str], Any], dag_path: str) -> Any:
        return get(f"{dag_path}/details")

    def dag(self, data: Any) -> Any:
        return data

    def task_markers(self, task_ids: Collection[str], instances: Collection[tuple[str, int]]) -> list[object]:
        return [*sorted(task_ids), *(list(instance) for instance in sorted(instances))]

    def reference(self, data: Any) -> Any:
        return data

    def log_lines(self, lines: Iterable[RawLine]) -> Iterator[LogLine]:
        return without_header(map(_line, lines))

    def ending(self) -> Ending3:
        return Ending3()

    def _is_at_least(self, *wanted: int) -> bool:
        numbers = re.match(r"(\d+)\.(\d+)", self.version)
        return numbers is not None and (int(numbers[1]), int(numbers[2])) >= wanted


def _patterns(dag_ids: Collection[str]) -> list[str]:
    patterns: list[str] = []
    for dag_id in sorted(dag_ids):
        if patterns and len(patterns[-1]) + 1 + len(dag_id) <= MAX_PATTERN_CHARS:
            patterns[-1] += f"|{dag_id}"
        else:
            patterns.append(dag_id)
    return patterns


def _line(raw: RawLine) -> LogLine:
    if raw.is_cut:
        return cut(_line_without_its_middle(raw), size=raw.size)
    try:
        return LogLine.parse(json.loads(raw.start))
    except ValueError:
        return LogLine(timestamp=None, level=None, text=raw.start.decode(errors="replace"))


def _line_without_its_middle(raw: RawLine) -> LogLine:
    """Read what a long line begins with, its time and the start of its text, and what it ends with, such as its level.

    Airflow writes the fields in this order. Inside of the text a quote has a backslash, so these patterns cannot match
    there.
    """
    start, end = raw.start.decode(errors="ignore"), raw.end.decode(errors="ignore")
    event = EVENT.search(start)
    if event is None:
        return LogLine(timestamp=None, level=None, text=start)
    around = start[: event.start()] + end
    fields = {name: match[1] for name, pattern in FIELDS.items() if (match := pattern.search(around))}
    try:
        return LogLine.parse({**fields, "event": _unquoted(event[1])})
    except AirflowShapeError:
        return LogLine(timestamp=None, level=None, text=_unquoted(event[1]))


def _unquoted(text: str) -> str:
    """Decode the start of a JSON string. An escape such as `\\u20ac` at its end may be cut: then it is dropped."""
    for dropped in range(6):
        with suppress(ValueError):
            return str(json.loads(f'"{text[: len(text) - dropped]}"', strict=False))
    return text
