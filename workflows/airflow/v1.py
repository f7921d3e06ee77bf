"""`/api/v1` of Airflow 2.11: a session or basic authentication, and older words that are translated here."""

import ast
import base64
import json
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, ClassVar

from .errors import AirflowProtocolError
from .http import Params, Wire
from .login import SessionLogin
from .reading import Record
from .tasklog import Ending2, without_header
from .types import LogChunk, LogLine

# [2026-11-23T06:39:35.254+0000] {taskinstance.py:1234} INFO - text; lines of Airflow's own start at " INFO".
LOG_LINE = re.compile(
    r"(?:\[(?P<time>[^\]]+)\] \{(?P<source>[^:}]*)[^}]*\})? (?P<level>[A-Z]+) - (?P<text>.*)", re.DOTALL
)


class V1:
    prefix: ClassVar[str] = "/api/v1"
    health_path: ClassVar[str] = "/health"
    warm_up_path: ClassVar[str | None] = None
    clear_answers_references_only: ClassVar[bool] = True
    # 2.11 cannot order task instances by anything unique. It does not cap their number either, and
    # what comes in one page needs no order.
    task_feed: ClassVar[Params] = {"limit": 1000}
    task_batch: ClassVar[Mapping[str, str]] = {}
    log_type: ClassVar[str] = "text/plain"

    def login(self, wire: Wire, *, username: str, password: str) -> SessionLogin:
        return SessionLogin(wire, username=username, password=password)

    def only_dags(self, dag_ids: Collection[str]) -> Params:
        return {}

    def trigger_body(self, *, dag_run_id: str, conf: Mapping[str, Any], note: str | None) -> Mapping[str, Any]:
        body: dict[str, Any] = {"dag_run_id": dag_run_id, "conf": dict(conf)}
        return body if note is None else {**body, "note": note}

    def note_path(self, run_path: str) -> str:
        return f"{run_path}/setNote"

    def details(self, get: Callable[[str], Any], dag_path: str) -> Any:
        # The details of 2.11 always have an empty list of owners.
        owners = Record(get(dag_path), "DAG").texts("owners")
        return {**self.dag(get(f"{dag_path}/details")), "owners": list(owners)}

    def dag(self, data: Any) -> Any:
        record = Record(data, "DAG")
        return {
            **data,
            "is_stale": not record.flag("is_active"),
            "timetable_summary": _schedule(record.value("schedule_interval")),
        }

    def reference(self, data: Any) -> Any:
        # 2.11 names a mapped task once per instance and does not say which.
        return {"map_index": -1, **Record(data, "reference").fields}

    def log(self, data: Any) -> LogChunk:
        record = Record(data, "log")
        token = record.optional_text("continuation_token")
        lines = tuple(_lines(record.text("content")))
        return LogChunk(lines=lines, token=token, ended=token is None or _end_of_log(token))

    def log_lines(self, lines: Iterable[bytes]) -> Iterator[LogLine]:
        texts = (raw.decode(errors="replace") for raw in lines)
        # The first line is the name of a host.
        return without_header(map(_line, islice(texts, 1, None)))

    def ending(self) -> Ending2:
        return Ending2()


def _schedule(interval: Any) -> str | None:
    """A cron expression as it is; other kinds by their name."""
    if not isinstance(interval, Mapping):
        return None
    return str(interval.get("value") or interval.get("__type"))


def _lines(content: str) -> Iterator[LogLine]:
    """Lines of a Python literal `[(host, text), …]`, which is how 2.11 writes a log into JSON."""
    try:
        parts = ast.literal_eval(content) if content else []
        texts = [text for _, text in parts]
    except (ValueError, SyntaxError, TypeError) as exc:
        raise AirflowProtocolError("log: content is not a list of (host, text)") from exc
    for text in texts:
        # A later chunk starts with the newline that ends the last line of the chunk before.
        yield from map(_line, str(text).removeprefix("\n").splitlines())


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


def _end_of_log(token: str) -> bool:
    """Read the payload of an itsdangerous token: base64 JSON before the signature, compressed after a dot."""
    compressed = token.startswith(".")
    payload = token.lstrip(".").split(".")[0]
    try:
        raw = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        data = json.loads(zlib.decompress(raw) if compressed else raw)
    except (ValueError, zlib.error) as exc:
        raise AirflowProtocolError("log: the continuation token cannot be read") from exc
    return bool(Record(data, "log token").value("end_of_log"))
