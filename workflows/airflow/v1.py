"""`/api/v1` of Airflow 2.11: a session or basic authentication, and older names, which are translated here."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, ClassVar

from .access import Password
from .http import Params, RawLine, Wire
from .login import SessionLogin
from .reading import Record
from .states import STATES_BUT_RUNNING
from .tasklog import Ending2, cut, without_header
from .types import LogLine, NewRun

# [2026-11-23T06:39:35.254+0000] {taskinstance.py:1234} INFO - text; lines of Airflow's own start at " INFO".
LOG_LINE = re.compile(
    r"(?:\[(?P<time>[^\]]+)\] \{(?P<source>[^:}]*)[^}]*\})? (?P<level>[A-Z]+) - (?P<text>.*)", re.DOTALL
)


class V1:
    prefix: ClassVar[str] = "/api/v1"
    health_path: ClassVar[str] = "/health"
    structure_path: ClassVar[str | None] = None
    due: ClassVar[str] = "execution_date"
    versions_path: ClassVar[str | None] = None
    states_but_running: ClassVar[Sequence[str]] = STATES_BUT_RUNNING
    clear_answers_references_only: ClassVar[bool] = True
    # 2.11 cannot order task instances by anything unique. It does not limit their number either, and one page needs
    # no order.
    task_feed: ClassVar[Params] = {"limit": 1000}
    task_batch: ClassVar[Mapping[str, str]] = {}
    # Marks by the API. Those of its page do not say the state.
    mark_events: ClassVar[str | list[str]] = "api.update_dag_run_state,api.patch_task_instance"
    log_type: ClassVar[str] = "text/plain"
    # Two names of the same date that differ. 2.11 refuses what is not of its schema before it looks at our rights.
    dry_trigger: ClassVar[Mapping[str, Any]] = {
        "logical_date": "2000-01-01T00:00:00+00:00",
        "execution_date": "2000-01-02T00:00:00+00:00",
    }

    def __init__(self, version: str) -> None:
        self.version = version

    def login(self, wire: Wire, way: Password) -> SessionLogin:
        return SessionLogin(wire, way)

    def only_dags(self, dag_ids: Collection[str]) -> Sequence[Params]:
        return [{}]

    def trigger_body(self, new: NewRun) -> Mapping[str, Any]:
        body: dict[str, Any] = {"dag_run_id": new.dag_run_id, "conf": dict(new.conf), **new.interval_fields()}
        if new.note is not None:
            body["note"] = new.note
        if new.logical_date is not None:
            # Without the key, 2.11 takes the present moment. It refuses null.
            body["logical_date"] = new.logical_date.isoformat()
        return body

    def details(self, get: Callable[[str], Any], dag_path: str) -> Any:
        # In 2.11, the details of a DAG always have an empty list of owners.
        owners = Record(get(dag_path), "DAG").texts("owners")
        details = self.dag(get(f"{dag_path}/details"))
        return {**details, "owners": list(owners), "dag_run_timeout": _timeout(details.get("dag_run_timeout"))}

    def dag(self, data: Any) -> Any:
        record = Record(data, "DAG")
        return {
            **data,
            "is_stale": not record.flag("is_active"),
            "timetable_summary": _schedule(record.value("schedule_interval")),
        }

    def task_markers(self, task_ids: Collection[str], instances: Collection[tuple[str, int]]) -> list[object]:
        # 2.11 takes names only.
        return [*sorted({*task_ids, *(task_id for task_id, _ in instances)})]

    def reference(self, data: Any) -> Any:
        # 2.11 names a mapped task once per instance, without its map_index.
        return {"map_index": -1, **Record(data, "reference").fields}

    def log_lines(self, lines: Iterable[RawLine]) -> Iterator[LogLine]:
        # The first line is the name of a host.
        return without_header(map(_raw_line, islice(lines, 1, None)))

    def ending(self) -> Ending2:
        return Ending2()


def _timeout(raw: Any) -> str | None:
    """Return a time span of 2.11, an object with days and seconds, as Airflow 3 writes it."""
    match raw:
        case {"days": int(days), "seconds": int(seconds)}:
            return f"P{days}DT{seconds}S"
    return None


def _schedule(interval: Any) -> str | None:
    """Return a cron expression as it is, and other timetables by their name."""
    if not isinstance(interval, Mapping):
        return None
    return str(interval.get("value") or interval.get("__type"))


def _raw_line(raw: RawLine) -> LogLine:
    line = _line(raw.start.decode(errors="replace"))
    return cut(line, size=raw.size) if raw.is_cut else line


def _line(text: str) -> LogLine:
    match = LOG_LINE.fullmatch(text)
    if match is None:
        return LogLine(timestamp=None, level=None, text=text)
    return LogLine(
        timestamp=_moment(match["time"]), level=match["level"].lower(), text=match["text"], source=match["source"]
    )


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else None
