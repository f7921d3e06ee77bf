"""Pushes of Airflow's listener plugin: who may push, and what a record means.

A push is a hint that is usually right. It goes through `observe`, as polls do. The next poll corrects what a push
leaves out or gets wrong.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.utils.crypto import constant_time_compare
from django.utils.dateparse import parse_datetime

from rest.errors import InvalidInputError, SVOpsError
from workflows import gateway
from workflows.airflow import types
from workflows.watch.apply import apply

WINDOW = timedelta(minutes=5)
LARGEST_BATCH = 1000


class NotSignedError(SVOpsError):
    """The push is not signed with our secret, or its signature is too old."""

    code = "invalid_signature"
    http_status = 401


def check_signature(body: bytes, *, secret: str, timestamp: str, signature: str, now: datetime) -> None:
    """HMAC-SHA256 over "timestamp.body", as `plugins/svops_listener.py` makes it. Raises `NotSignedError`.

    A push that is replayed within the window does no harm: for `observe` it is a repeat.
    """
    if not timestamp.isdecimal() or abs(now.timestamp() - int(timestamp[:12])) > WINDOW.total_seconds():
        raise NotSignedError("The timestamp is missing or more than 5 minutes off.")
    expected = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    if not secret or not constant_time_compare(expected.hexdigest(), signature):
        raise NotSignedError("The signature does not match.")


def receive(airflow: str, records: list[Any], *, now: datetime) -> None:
    """Observe a batch of pushed records. Raises `InvalidInputError` for a record that the plugin would not send.

    All tasks of an ended run are read from Airflow, as in a poll, unless the end of each was pushed. The end of a
    skipped task is never pushed.
    """
    if len(records) > LARGEST_BATCH:
        raise InvalidInputError({"records": [f"Expected at most {LARGEST_BATCH}."]})
    parsed = [parse(index, record) for index, record in enumerate(records)]
    runs = [record for record in parsed if isinstance(record, types.DagRun)]
    tasks = [record for record in parsed if isinstance(record, types.TaskInstance)]
    apply(gateway.client_of(airflow), runs=runs, tasks=tasks, at=now, pushed=True)


def parse(index: int, record: Any) -> types.DagRun | types.TaskInstance:
    """Read one record. Raises `InvalidInputError` with its index in the batch."""
    try:
        return _task(record) if record["kind"] == "task" else _run(record)
    except (KeyError, TypeError, ValueError) as exc:
        raise InvalidInputError({f"records.{index}": ["Not a record of the SVOps listener."]}) from exc


def _run(record: Mapping[str, Any]) -> types.DagRun:
    return types.DagRun(
        dag_id=_text(record["dag_id"]),
        dag_run_id=_text(record["dag_run_id"]),
        state=_text(record["state"]),
        run_type=_text(record["run_type"]),
        conf={},
        note=None,
        logical_date=None,
        data_interval=None,
        queued_at=None,
        start_date=_time(record["start_date"]),
        end_date=_time(record["end_date"]),
        triggered_by=None,
    )


def _task(record: Mapping[str, Any]) -> types.TaskInstance:
    start_date, end_date = _time(record["start_date"]), _time(record["end_date"])
    state = _text(record["state"], longest=30)
    if state != "running":
        # The hook is called before Airflow stores the end.
        end_date = end_date or _time(record["at"])
    return types.TaskInstance(
        dag_id=_text(record["dag_id"]),
        dag_run_id=_text(record["dag_run_id"]),
        task_id=_text(record["task_id"]),
        map_index=_whole(record["map_index"], least=-1),
        state=state,
        try_number=_whole(record["try_number"]),
        max_tries=_whole(record["max_tries"], least=-1),
        operator=None,
        start_date=start_date,
        end_date=end_date,
        duration=(end_date - start_date).total_seconds() if start_date and end_date else None,
        id=_text(record["id"], longest=250) if record.get("id") else None,
        pool=None,
        hostname=None,
        queued_at=None,
        asks=record.get("asks") is True,
    )


# Each returns a value that fits into the database, and raises `ValueError` or `TypeError` for anything else.


def _text(raw: object, *, longest: int = 250) -> str:
    if not isinstance(raw, str) or not 0 < len(raw) <= longest or "\0" in raw:
        raise ValueError("expected a text")
    return raw


def _whole(raw: object, *, least: int = 0) -> int:
    if not isinstance(raw, int) or not least <= raw < 2**31:
        raise ValueError("expected a whole number")
    return raw


def _time(raw: str | None) -> datetime | None:
    if raw is None:
        return None
    parsed = parse_datetime(raw)
    if parsed is None or parsed.tzinfo is None:
        raise ValueError("expected a time with its zone")
    return parsed
